"""What one evaluation is: model, benchmarks, methods, budgets; from options or a YAML file."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from parathinker.data.files import whole
from parathinker.errors import UsageError

GROWABLE = ("benchmarks", "methods", "paths", "samples", "limit", "latency_questions", "model")
"""What may change from one run into a folder to the next: it decides what is looked at, not what
any single answer is. A model may go by another name; its files are compared."""
SETTINGS = "settings.yaml"
"""A run's own, beside what it found."""
MOST_SAMPLES = 10_000
"""Seeds are so far apart, so that evaluations with different seeds have no answer in common."""
_TEXTS = ("model", "split", "weights", "device", "backend")
_OPTIONAL_TEXTS = ("prompt", "subset")


@dataclass(frozen=True)
class EvalSettings:
    """Every choice that an evaluation makes.

    A *budget* is a number of generated tokens, all of them counted: opening, closing and forced
    tokens, and the summary's. At a width of P, every method has P × ``budget``.
    """

    model: str = "tiny"
    """An embedded model's name, a folder, or a hub id."""
    benchmarks: tuple[str, ...] = ("products",)
    methods: tuple[str, ...] = ("sequential", "majority", "parallel")
    """Names, with options as in ``parallel:termination=first-finish``."""
    paths: tuple[int, ...] = (1, 2, 4, 8)
    """Widths P to compare at."""
    budget: int = 16_384
    """Tokens for each path of the width."""
    summary_tokens: int = 512
    """Of a budget, what is set aside for the summary, ``<summary>`` and forced text included."""
    samples: int = 1
    """Answers to each question, with different seeds: accuracy is pass@1, their mean."""
    limit: int | None = None
    """Questions of each benchmark."""
    temperature: float | None = None
    """By default the model's own."""
    top_p: float = 1.0
    seed: int = 0
    prompt: str | None = None
    """What is asked, ``{question}`` in it; by default each benchmark's own."""
    task_options: Mapping[str, str] = field(default_factory=dict)
    """Of reasoning-gym's tasks."""
    split: str = "train"
    """Of benchmarks that are folders or data sets of the hub."""
    subset: str | None = None
    """The configuration, of the same."""
    latency_questions: int = 3
    """Questions to time one at a time; 0 times none."""
    weights: str = "auto"
    device: str = "auto"
    backend: str = "native"
    """The engine: ``native`` or ``vllm``."""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own arguments."""

    def __post_init__(self) -> None:
        for name in ("benchmarks", "methods", "paths"):
            values, kind = getattr(self, name), int if name == "paths" else str
            listed = isinstance(values, (list, tuple)) and values
            if not listed or not all(isinstance(value, kind) for value in values):
                what = "whole numbers" if kind is int else "texts"
                raise UsageError(f"{name} should be a list of {what}, one at least; got {values!r}")
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        for name in (*_TEXTS, *_OPTIONAL_TEXTS):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in _OPTIONAL_TEXTS):
                raise UsageError(f"{name} should be a text; got {getattr(self, name)!r}")
        if not isinstance(self.task_options, Mapping):
            raise UsageError(f"task_options should be names and values; got {self.task_options!r}")
        if not isinstance(self.engine_args, Mapping):
            raise UsageError(f"engine_args should be names and values; got {self.engine_args!r}")
        object.__setattr__(self, "engine_args", dict(self.engine_args))
        options = {str(name): _text(value) for name, value in self.task_options.items()}
        object.__setattr__(self, "task_options", options)
        whole = {"budget": 4, "summary_tokens": 2, "samples": 1, "seed": 0, "latency_questions": 0}
        if self.limit is not None:
            whole["limit"] = 1
        for name, least in whole.items():
            _whole(name, getattr(self, name), least)
        for width in self.paths:
            _whole("paths", width, 1)
        if self.samples > MOST_SAMPLES:
            raise UsageError(f"samples should be at most {MOST_SAMPLES:,}; got {self.samples}")
        known = self.temperature is not None
        if known and not (_is_number(self.temperature) and 0 <= self.temperature < float("inf")):
            raise UsageError(f"temperature should be 0 or more; got {self.temperature!r}")
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise UsageError(f"top_p should be above 0, at most 1; got {self.top_p!r}")
        object.__setattr__(self, "paths", tuple(sorted(self.paths)))

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], where: str = "settings") -> EvalSettings:
        """Settings by name, as YAML or JSON has them.

        Raises:
            UsageError: an unknown name, or a value that is not allowed.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name in raw:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                hint = f"known: {', '.join(sorted(known))}"
                hint = f"did you mean {close[0]}?" if close else hint
                raise UsageError(f"{where}: there is no setting {name!r}; {hint}")
        try:
            return cls(**raw)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    @classmethod
    def from_yaml(cls, file: Path) -> EvalSettings:
        """Settings from a YAML file.

        Raises:
            UsageError: it cannot be read, or is no mapping of settings.
        """
        import yaml

        try:
            raw = yaml.safe_load(file.read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is not valid YAML: {error}") from error
        if not isinstance(raw, dict):
            raise UsageError(f"{file} should hold settings, a line 'name: value' each")
        return cls.from_mapping(raw, str(file))

    def seed_of(self, replicate: int) -> int:
        """The seed of one of a question's answers."""
        return self.seed * MOST_SAMPLES + replicate

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def write(self, file: Path) -> None:
        """As YAML, which :meth:`from_yaml` reads.

        Raises:
            UsageError: the file cannot be written.
        """
        import yaml

        # Through JSON, since YAML has a form of its own for tuples.
        plain = json.loads(json.dumps(self.to_dict()))
        with whole(file) as partial:
            partial.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), "utf-8")

    def grown_by(self, later: EvalSettings) -> EvalSettings:
        """The settings of a run that was gone on with: all that either looks at."""
        limits = self.limit, later.limit
        return dataclasses.replace(
            later,  # whose constructor drops what is named twice
            benchmarks=self.benchmarks + later.benchmarks,
            methods=self.methods + later.methods,
            paths=self.paths + later.paths,
            samples=max(self.samples, later.samples),
            limit=None if None in limits else max(limit for limit in limits if limit),
            latency_questions=max(self.latency_questions, later.latency_questions),
        )

    def differences(self, now: EvalSettings) -> list[str]:
        """Where ``now`` differs in what must not change, in words."""
        before, after = self.to_dict(), now.to_dict()
        return [
            f"{name}: {before[name]!r} there, {after[name]!r} now"
            for name in before
            if name not in GROWABLE and _plain(before[name]) != _plain(after[name])
        ]


def _text(value: Any) -> str:
    """An option's value as a command line would have it."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} should be a whole number from {least}; got {value!r}")
