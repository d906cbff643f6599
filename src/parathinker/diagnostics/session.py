"""One diagnosis at work: its folder, its model, its questions, and what it has sampled so far.

A diagnosis keeps generations and scores in the store of :mod:`parathinker.evaluation`, and works
out everything else from them. One that was stopped samples only what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from parathinker import ParaThinker
from parathinker.errors import UsageError
from parathinker.evaluation import benchmarks
from parathinker.evaluation.benchmarks import Benchmark, Selection
from parathinker.evaluation.lab import IN_FLIGHT, Case, Lab, Sampling
from parathinker.evaluation.models import Watch, check_budget, model_identity
from parathinker.evaluation.plain_lab import PlainLab
from parathinker.evaluation.run import agree, compare_settings
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import RunStore
from parathinker.scoring import ScoringPool

T = TypeVar("T")
R = TypeVar("R")
_FACT = "diagnosis"
_AMPLE = 0.75
"""Of the budget of a path, what is enough not to be worth a remark."""


@dataclass(frozen=True)
class Session:
    """All that a diagnosis works with."""

    settings: EvalSettings
    benchmark: Benchmark
    lab: Lab
    identity: str
    """The model's name and a digest of its weights."""
    watch: Watch
    _name: str
    _store: RunStore
    _scoring: ScoringPool

    def begin(self) -> None:
        """Note what is measured, once it is sure that it can be: from now on the folder is its."""
        self._store.take_questions(self.benchmark.name, self.benchmark.questions)
        agree(self._store, self.settings, self.identity)
        self._store.note(_FACT, self._name)

    @property
    def subject(self) -> str:
        """Model and benchmark, for titles."""
        name = self.benchmark.name
        return f"{self.identity.split()[0]} on {Path(name).name if Path(name).exists() else name}"

    def remarks(self, widths: Sequence[int]) -> list[str]:
        """Where the summary's share of a budget leaves paths much less than a path has alone."""
        s = self.settings
        found = [f"Left out, {self.benchmark.remark}."] if self.benchmark.remark else []
        for width in widths:
            left = self.cases(width)[0].path_tokens
            if left < _AMPLE * s.budget:
                found.append(
                    f"At P = {width} the {s.summary_tokens:,} tokens set aside for the summary "
                    f"leave each path {left:,} of {s.budget:,}; a smaller --summary-tokens leaves "
                    "more."
                )
        return found

    def cases(self, width: int) -> list[Case]:
        """Each question once for each replicate."""
        s = self.settings
        return [
            Case(
                question,
                self.benchmark.ask(question),
                width,
                s.budget,
                s.summary_tokens,
                s.seed_of(replicate),
            )
            for question in self.benchmark.questions
            for replicate in range(s.samples)
        ]

    def each(self, what: str, items: Sequence[T], measure: Callable[[T], Awaitable[R]]) -> list[R]:
        """What ``measure`` makes of each item, in their order; several are under way at once."""
        return asyncio.run(_each(what, items, measure, self.watch))

    @contextmanager
    def other_lab(
        self, model: str, identity: str, thought_embeddings: bool = True
    ) -> Iterator[Lab]:
        """Another model, or the same without thought embeddings, asked in the same way."""
        s = self.settings
        self.watch(f"loading {identity.split()[0]}", 0, 1)
        with ParaThinker.from_pretrained(
            model,
            s.device,
            weights=s.weights,
            thought_embeddings=thought_embeddings,
            backend=s.backend,
            **s.engine_args,
        ) as other:
            self.watch(f"loading {identity.split()[0]}", 1, 1)
            check_budget(s, other, [self.benchmark])
            lab = Lab(other, _sampling(s, identity), self._store, self._scoring)
            try:
                yield lab
            finally:
                lab.close()


@contextmanager
def opened(name: str, settings: EvalSettings, folder: Path, watch: Watch) -> Iterator[Session]:
    """Open a diagnosis's folder and load its model, one without control tokens too.

    Raises:
        UsageError: several benchmarks, settings that do not fit the model, or a folder that holds
            something else.
    """
    if len(settings.benchmarks) > 1:
        raise UsageError(
            f"a diagnosis looks at one benchmark; got {', '.join(settings.benchmarks)}"
        )
    selection = Selection(
        settings.limit, settings.seed, settings.task_options, settings.split, settings.subset
    )
    benchmark = benchmarks.load(settings.benchmarks[0], selection, settings.prompt)
    with RunStore(folder, write=True) as store:
        _claim(store, name)
        identity = model_identity(settings.model)
        compare_settings(store, settings, identity)  # before a model is loaded for nothing
        watch("loading the model", 0, 1)
        with (
            ScoringPool() as scoring,
            ParaThinker.from_pretrained(
                settings.model,
                settings.device,
                weights=settings.weights,
                plain=True,
                backend=settings.backend,
                **settings.engine_args,
            ) as model,
        ):
            watch("loading the model", 1, 1)
            check_budget(settings, model, [benchmark])
            kind = Lab if model.max_paths else PlainLab
            lab = kind(model, _sampling(settings, identity), store, scoring)
            try:
                yield Session(settings, benchmark, lab, identity, watch, name, store, scoring)
            finally:
                lab.close()


def _claim(store: RunStore, name: str) -> None:
    """Reports of two diagnoses would write over each other."""
    held = store.fact(_FACT)
    if held is None and store.fact("settings") is not None:
        held = "an evaluation"
    if held not in (None, name):
        raise UsageError(
            f"{store.path.parent} holds {held}; give this diagnosis another output folder"
        )


def _sampling(settings: EvalSettings, identity: str) -> Sampling:
    return Sampling(
        identity,
        settings.budget,
        max(settings.paths),
        settings.temperature,
        settings.top_p,
        confidences=False,
    )


async def _each(
    what: str, items: Sequence[T], measure: Callable[[T], Awaitable[R]], watch: Watch
) -> list[R]:
    found: dict[int, R] = {}
    upcoming = iter(enumerate(items))
    watch(what, 0, len(items))

    async def worker() -> None:
        for i, item in upcoming:
            found[i] = await measure(item)
            watch(what, len(found), len(items))

    workers = [asyncio.create_task(worker()) for _ in range(IN_FLIGHT)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [found[i] for i in range(len(items))]
