"""The models of a run: its own, and those that single methods are done with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from parathinker import ParaThinker
from parathinker.errors import UsageError
from parathinker.evaluation.benchmarks import Benchmark
from parathinker.evaluation.keeping import Kept
from parathinker.evaluation.lab import Lab, Sampling
from parathinker.evaluation.plain_lab import PlainLab
from parathinker.evaluation.settings import EvalSettings
from parathinker.modeling.folders import resolve_model
from parathinker.scoring import ScoringPool

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""
_BLOCK, _BLOCKS = 2**20, 128
"""Of a file, so many bytes in so many places are read to tell it from another."""


@contextmanager
def open_labs(
    settings: EvalSettings,
    identities: Mapping[str, str],
    loaded: Sequence[Benchmark],
    store: Kept,
    scoring: ScoringPool,
    watch: Watch,
) -> Iterator[dict[str, Lab]]:
    """A lab for each model, all of them in memory together; equal ones are loaded once.

    Args:
        identities: by the name that methods have for a model; an empty one for the run's own.

    Raises:
        UsageError: the settings do not fit one of them.
    """
    by_identity: dict[str, Lab] = {}
    labs: dict[str, Lab] = {}
    with ExitStack() as stack:
        for name, identity in identities.items():
            if identity not in by_identity:
                what = f"loading {name}" if name else "loading the model"
                watch(what, 0, 1)
                model = stack.enter_context(
                    ParaThinker.from_pretrained(
                        name or settings.model,
                        settings.device,
                        weights=settings.weights,
                        plain=True,
                        backend=settings.backend,
                        **settings.engine_args,
                    )
                )
                watch(what, 1, 1)
                try:
                    check_budget(settings, model, loaded)
                except UsageError as error:
                    raise UsageError(f"model={name}: {error}" if name else str(error)) from None
                kind = Lab if model.max_paths else PlainLab
                lab = kind(model, _sampling(settings, identity), store, scoring)
                stack.callback(lab.close)
                by_identity[identity] = lab
            labs[name] = by_identity[identity]
        yield labs


def _sampling(settings: EvalSettings, identity: str) -> Sampling:
    return Sampling(
        identity, settings.budget, max(settings.paths), settings.temperature, settings.top_p
    )


def longest_prompt(model: ParaThinker, benchmark: Benchmark) -> tuple[int, int]:
    """Which question takes the longest prompt, and its tokens."""
    lengths = [model.prompt_tokens(benchmark.ask(one)) for one in benchmark.questions]
    return lengths.index(max(lengths)), max(lengths)


def check_budget(settings: EvalSettings, model: ParaThinker, loaded: Sequence[Benchmark]) -> None:
    """Raise UsageError where a budget is too small for any question, or too large for the model."""
    for benchmark in loaded:
        longest = longest_prompt(model, benchmark)[1]
        if settings.budget < longest:
            raise UsageError(
                f"budget {settings.budget} is smaller than a prompt of {benchmark.name}, "
                f"{longest} tokens; thinking takes more than reading"
            )
        # A model without control tokens writes no summary.
        behind = settings.summary_tokens if model.max_paths else 0
        room = model.config.max_context - longest - behind
        if settings.budget > room:
            raise UsageError(
                f"budget {settings.budget} does not fit: beside a prompt of {longest} tokens "
                f"({benchmark.name}) and a summary this model's context of "
                f"{model.config.max_context} leaves {room}"
            )


def sampled_blocks(size: int) -> list[int]:
    """Where the blocks of a file begin that are read: all, or evenly spread with both ends."""
    if size <= _BLOCK * _BLOCKS:
        return list(range(0, size, _BLOCK))
    return [i * (size - _BLOCK) // (_BLOCKS - 1) for i in range(_BLOCKS)]


def model_identity(name: str) -> str:
    """A model's name for people and a digest of its files, so that another is told apart."""
    folder = resolve_model(name)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".safetensors", ".json", ".jinja"):
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as data:
            for begin in sampled_blocks(size):
                data.seek(begin)
                digest.update(data.read(_BLOCK))
    shown = Path(name).resolve().name if Path(name).is_dir() else name
    return f"{shown} {digest.hexdigest()[:16]}"
