"""Recipes: YAML files that say all of a training run, checked before anything is loaded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from parathinker.errors import MissingExtraError, UsageError
from parathinker.modeling.config import THOUGHT_EMBEDDING_ROWS
from parathinker.tokens import RELEASED_MAX_PATHS

T = TypeVar("T")


@dataclass(frozen=True)
class ModelRecipe:
    """Where training starts: a folder or hub id (``base``), or fresh weights (``init``)."""

    base: str | None = None
    init: dict[str, Any] | None = None
    """Arguments of the transformers config of ``model_type``; the vocabulary's size is added."""
    tokenizer: str | None = None
    """For fresh weights: the task whose words the byte-level tokenizer is made for."""
    max_paths: int = RELEASED_MAX_PATHS
    """P_max: control tokens for so many paths."""
    thought_embedding_rows: int = THOUGHT_EMBEDDING_ROWS
    thought_embedding_std: float = 0.0
    """Standard deviation of fresh thought embeddings; 0 leaves the base model unchanged."""
    parathinker: dict[str, Any] = field(default_factory=dict)
    """Defaults that the finished model carries: temperature, budgets, summary prefix, task."""

    def __post_init__(self) -> None:
        if (self.base is None) == (self.init is None):
            raise UsageError("recipe: model needs either 'base' or 'init', not both")
        if self.init is not None and "model_type" not in self.init:
            raise UsageError("recipe: model.init needs a 'model_type'")
        if self.thought_embedding_rows <= self.max_paths:
            raise UsageError(
                f"recipe: model.thought_embedding_rows ({self.thought_embedding_rows}) should be "
                f"larger than max_paths ({self.max_paths}): row 0 is the prompt's"
            )


@dataclass(frozen=True)
class DataRecipe:
    """What a stage learns from. ``source`` is ``jsonl`` (with ``files``) or ``products``."""

    source: str
    paths: tuple[int, ...] = (1,)
    """For sources that make examples: how many paths, one drawn for each batch."""
    files: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    """For sources that make examples: their own arguments."""
    fixed_examples: int | None = None
    """Use the first so many examples over and over: the overfitting gate."""

    def __post_init__(self) -> None:
        if self.source not in ("jsonl", "products"):
            raise UsageError(
                f"recipe: data.source {self.source!r} is unknown; known: jsonl, products"
            )
        if self.source == "jsonl" and not self.files:
            raise UsageError("recipe: data.source jsonl needs 'files'")
        if not self.paths or any(p < 1 for p in self.paths):
            raise UsageError(f"recipe: data.paths should list numbers from 1, got {self.paths}")


@dataclass(frozen=True)
class StageRecipe:
    """One stretch of training with its own data and schedule."""

    name: str
    data: DataRecipe
    steps: int
    batch_tokens: int = 8192
    """About so many tokens, padding not counted, in each optimiser step of one device."""
    learning_rate: float = 1e-5
    warmup_steps: int = 0
    lr_scheduler: str = "constant_with_warmup"
    weight_decay: float = 0.05
    adam_beta2: float = 0.999
    max_grad_norm: float = 0.5
    summary_weight: float = 1.0
    """Weight of the loss on summaries, that on paths being 1: summaries are short."""
    bf16: bool = False
    """bfloat16 autocast; weights and optimiser stay in float32."""
    save_steps: int = 200
    logging_steps: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "save_steps", "logging_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe: stage {self.name!r}: {name} must be 1 or more")
        for name in ("learning_rate", "summary_weight"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"recipe: stage {self.name!r}: {name} must be above 0")


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str
    model: ModelRecipe
    stages: tuple[StageRecipe, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise UsageError(f"recipe: stages need one name each, got {names}")


def read_recipe(file: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UsageError: no such file, not YAML, or a key that is unknown, missing or out of range.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    if not file.is_file():
        raise UsageError(f"recipe {file} does not exist")
    try:
        raw = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {file} is not valid YAML: {error}") from error
    return parse_recipe(raw)


def parse_recipe(raw: Any) -> Recipe:
    """The same from parsed YAML."""
    top = _mapping(raw, "recipe")
    stages = top.get("stages")
    if not isinstance(stages, list):
        raise UsageError("recipe: 'stages' should be a list")
    parsed = []
    for i, stage in enumerate(stages):
        where = f"stages[{i}]"
        stage = dict(_mapping(stage, where))
        stage["data"] = _build(DataRecipe, stage.get("data"), f"{where}.data")
        parsed.append(_build(StageRecipe, stage, where))
    model = _build(ModelRecipe, top.get("model"), "model")
    return _build(Recipe, {**top, "model": model, "stages": tuple(parsed)}, "recipe")


def _mapping(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UsageError(f"recipe: {where} should be a mapping, got {type(raw).__name__}")
    return raw


def _build(kind: type[T], raw: Any, where: str) -> T:
    """A dataclass from a mapping; unknown, missing and ill-typed keys are named."""
    values = dict(_mapping(raw, where))
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(f"recipe: {where} has no key {key!r}; known: {', '.join(known)}")
    for name, spec in known.items():
        if name not in values:
            if spec.default is MISSING and spec.default_factory is MISSING:
                raise UsageError(f"recipe: {where} lacks {name!r}")
            continue
        value = values[name]
        if isinstance(value, list):
            values[name] = value = tuple(value)
        if spec.type == "float" and isinstance(value, (int, str)) and not isinstance(value, bool):
            with suppress(ValueError):  # YAML reads 1e-3 as a string
                values[name] = value = float(value)
        items = {"tuple[int, ...]": int, "tuple[str, ...]": str}.get(str(spec.type))
        if items is not None and not (
            isinstance(value, tuple) and all(type(item) is items for item in value)
        ):
            raise UsageError(
                f"recipe: {where}.{name} should be a list of {items.__name__}, got {value!r}"
            )
        wanted = {"int": int, "float": float, "bool": bool, "str": str}.get(str(spec.type))
        if wanted is not None and (
            not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))
        ):
            raise UsageError(f"recipe: {where}.{name} should be {spec.type}, got {value!r}")
    return kind(**values)
