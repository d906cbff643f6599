"""Run folders of evaluations written by hand, whose every number is known; stores in memory, and a
disk that is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parathinker.data.schema import Question
from parathinker.evaluation.generations import Generation, Written
from parathinker.evaluation.keeping import Forgetful
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import Cell, Outcome, RunStore

RIGHT, WRONG = "Answer: 42", "Answer: 41"
LENGTHS = (10, 20)
"""Tokens of the two paths of each question, the first of which is right."""


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may become larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def written(text: str, tokens: int, thought_id: int) -> Written:
    return Written(text, tuple(range(tokens)), "stop", thought_id)


def write_run(
    folder: Path,
    scores: Mapping[str, Sequence[float]],
    *,
    widths: Sequence[int] = (1, 2),
    samples: int = 1,
    texts: Sequence[str] = (RIGHT, WRONG),
    question: str = "What is 6 * 7?",
    benchmark: str = "products",
    finished: bool = True,
    left_out: Sequence[str] = (),
    seconds: float | None = 0.5,
    **settings: Any,
) -> Path:
    """A run of methods on as many questions as each has scores; all answer alike at all widths.

    Methods that begin with "parallel" cut their paths at the first one's length and have a summary
    of 5 tokens, right where they score 1.
    """
    chosen = EvalSettings(
        benchmarks=(benchmark,), methods=tuple(scores), paths=tuple(widths), budget=64,
        summary_tokens=16, samples=samples, **settings,
    )  # fmt: skip
    asked = [
        Question(f"q{i}", f"{question} ({i})", "42")
        for i in range(len(next(iter(scores.values()))))
    ]
    with RunStore(folder, write=True) as store:
        store.note("settings", chosen.to_dict())
        store.note("model", "tiny 0123456789abcdef")
        store.note("scorer", "rules 1")
        store.note(
            "runs", [{"began": 1.0, "versions": {"torch": "2.6", "scipy": None}, "commit": None}]
        )
        store.note("left out", list(left_out))
        if finished:
            store.note("finished", 2.0)
        store.take_questions(benchmark, tuple(asked))
        for replicate in range(samples):
            for at, one in enumerate(asked):
                paths = tuple(
                    written(text, length, i + 1)
                    for i, (text, length) in enumerate(zip(texts, LENGTHS, strict=True))
                )
                store.add_generation(Generation(f"p{at}-{replicate}", paths, 0.1), "paths", one.id)
                for score, text in zip((1.0, 0.0), texts, strict=True):
                    store.add_score(one.id, text, score, "")
                for method, own in scores.items():
                    for width in widths:
                        cell = Cell(benchmark, method, width, replicate, one.id)
                        store.add_outcome(cell, _outcome(store, cell, own[at], at, texts))
                        if seconds is not None:
                            store.add_latency(cell, seconds * width)
    return folder


def _outcome(store: RunStore, cell: Cell, score: float, at: int, texts: Sequence[str]) -> Outcome:
    lengths = LENGTHS[: cell.width]
    made: tuple[str, ...] = (f"p{at}-{cell.replicate}",)
    text = texts[0] if score == 1 else texts[1]
    if not cell.method.startswith("parallel"):
        return Outcome(score, (text,), sum(lengths), 0, max(lengths), generations=made)
    name = f"s{at}-{cell.replicate}-{cell.method}-{cell.width}"
    summary = Generation(name, (written(text, 5, 0),), 0.1)
    store.add_generation(summary, "summary", cell.question_id)
    cut = min(lengths)
    return Outcome(score, (text,), cut * len(lengths), 5, cut + 5, generations=(*made, name))


class Memory(Forgetful):
    """Keeps generations, and counts how many were made."""

    def __init__(self) -> None:
        self.kept: dict[str, Generation] = {}
        self.made: list[str] = []

    def generation(self, key: str) -> Generation | None:
        return self.kept.get(key)

    def add_generation(self, made: Generation, kind: str, question_id: str) -> None:
        self.kept[made.key] = made
        self.made.append(kind)


class Remembering:
    """As :class:`Memory`, and not a :class:`Forgetful`, so that all is shared."""

    def __init__(self) -> None:
        memory = Memory()
        self.kept, self.made = memory.kept, memory.made
        self.generation, self.add_generation = memory.generation, memory.add_generation
        self.score, self.add_score = memory.score, memory.add_score
