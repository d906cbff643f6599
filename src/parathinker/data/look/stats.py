"""A dataset in figures: how much there is, how long, how often right, and what repeats itself."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

from parathinker.benchmarks import BENCHMARKS
from parathinker.data.build.decontaminate import Decontaminator, read_benchmarks
from parathinker.data.build.lengths import TokenCounter
from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.similarity import (
    near_duplicate_questions,
    shingles,
    without_near_duplicates,
)
from parathinker.data.schema import Example, normalise
from parathinker.errors import UsageError

CHARACTERS, TOKENS = "characters", "tokens"
LENGTHS = ("question", "path", "right path", "wrong path", "summary", "example", "positions")
"""What is measured, in the order in which it is told."""
_DEFAULT = BuildSettings()


@dataclass(frozen=True)
class Spread:
    """How a length is distributed."""

    least: float
    median: float
    mean: float
    p95: float
    """95 of 100 are no longer."""
    most: float
    total: float

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """Of at least one value."""
        ordered = sorted(values)
        return cls(
            ordered[0],
            statistics.median(ordered),
            statistics.fmean(ordered),
            ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
            ordered[-1],
            sum(ordered),
        )


@dataclass
class Stats:
    """The figures of one dataset. Lengths are in ``unit``, control tokens included if tokens."""

    unit: str
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    paths_per_example: Counter[int] = field(default_factory=Counter)
    right_shares: list[float] = field(default_factory=list)
    """For each example with checked paths, the share of them that is right."""
    right: int = 0
    wrong: int = 0
    unchecked: int = 0
    learned: int = 0
    summaries: int = 0
    lengths: dict[str, list[int]] = field(default_factory=dict)
    """By what, see ``LENGTHS``."""
    duplicate_questions: int = 0
    """Examples whose question an earlier one has, too."""
    similar_questions: int = 0
    """Examples whose question is not the same as, but much like an earlier one."""
    similar_paths: int = 0
    """Paths that are much like an earlier one of their example."""
    contaminated: int = 0
    """Examples with a question of one of the package's benchmarks."""

    @property
    def examples(self) -> int:
        """How many there are."""
        return self.splits.total()

    @property
    def paths(self) -> int:
        """Of all examples."""
        return self.right + self.wrong + self.unchecked

    def note(self, what: str, length: int) -> None:
        """Note a length."""
        self.lengths.setdefault(what, []).append(length)

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "examples": self.examples,
            "splits": dict(sorted(self.splits.items())),
            "sources": dict(sorted(self.sources.items())),
            "paths": self.paths,
            "right": self.right,
            "wrong": self.wrong,
            "unchecked": self.unchecked,
            "learned": self.learned,
            "summaries": self.summaries,
            "paths_per_example": {str(n): k for n, k in sorted(self.paths_per_example.items())},
            "right_share": dict(share_histogram(self.right_shares)),
            "unit": self.unit,
            "lengths": {what: asdict(Spread.of(v)) for what, v in sorted(self.lengths.items())},
            "duplicate_questions": self.duplicate_questions,
            "similar_questions": self.similar_questions,
            "similar_paths": self.similar_paths,
            "contaminated": self.contaminated,
        }


def measure(examples: Iterable[Example], counter: TokenCounter | None = None) -> Stats:
    """Read a dataset once, an example at a time; of questions, the texts are kept.

    Args:
        examples: what to measure.
        counter: counts tokens; without one lengths are in characters.

    Raises:
        UsageError: there are no examples.
    """
    stats = Stats(CHARACTERS if counter is None else TOKENS)
    clear = Decontaminator(read_benchmarks(BENCHMARKS, ()), _DEFAULT.ngram)
    texts: list[str] = []
    for example in examples:
        texts.append(example.question)
        _count(stats, example)
        _note_lengths(stats, example, counter)
        stats.contaminated += clear.match(example.question) is not None
    if not texts:
        raise UsageError("there are no examples in it")
    stats.duplicate_questions = len(texts) - len({normalise(text) for text in texts})
    similar = near_duplicate_questions(texts, [None] * len(texts), _DEFAULT.similar_questions)
    stats.similar_questions = max(0, len(similar) - stats.duplicate_questions)
    return stats


def share_histogram(shares: Sequence[float]) -> list[tuple[str, int]]:
    """How many examples have which share of right paths: none, quarters, all."""
    edges = [Fraction(i, 4) for i in range(5)]
    inner = [share for share in shares if 0 < share < 1]
    quarters = [
        (f"{float(low):.0%} to {float(high):.0%}", sum(low <= share < high for share in inner))
        for low, high in pairwise(edges)
    ]
    return [("none", sum(s == 0 for s in shares)), *quarters, ("all", sum(s == 1 for s in shares))]


def _count(stats: Stats, example: Example) -> None:
    stats.splits[example.split] += 1
    stats.sources[example.source or "unknown"] += 1
    stats.paths_per_example[len(example.paths)] += 1
    checked = [path.correct for path in example.paths if path.correct is not None]
    stats.right += sum(checked)
    stats.wrong += len(checked) - sum(checked)
    stats.unchecked += len(example.paths) - len(checked)
    stats.learned += sum(path.learn for path in example.paths)
    stats.summaries += example.summary is not None
    if checked:
        stats.right_shares.append(sum(checked) / len(checked))
    sets = [shingles(path.text) for path in example.paths]
    verdicts = [path.correct for path in example.paths]
    kept = without_near_duplicates(sets, verdicts, _DEFAULT.similar_paths)
    stats.similar_paths += len(sets) - len(kept)


def _note_lengths(stats: Stats, example: Example, counter: TokenCounter | None) -> None:
    question = len(example.question)
    paths = [len(path.text) for path in example.paths]
    summary = None if example.summary is None else len(example.summary)
    total = question + sum(paths) + (summary or 0)
    if counter is not None:
        found = counter.example(example)
        question, paths, summary = found.prompt, list(found.paths), found.summary
        total = found.total
        stats.note("positions", found.positions)
    stats.note("question", question)
    for path, length in zip(example.paths, paths, strict=True):
        stats.note("path", length)
        if path.correct is not None:
            stats.note("right path" if path.correct else "wrong path", length)
    if summary is not None:
        stats.note("summary", summary)
    stats.note("example", total)
