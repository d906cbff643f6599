"""Keeping training questions clear of the benchmarks'.

A question is contaminated if, of its words, all are a benchmark question's words in that order, or
13 in a row are. A benchmark's question of fewer than 13 words counts as one run if it has at least
8. Words are runs of letters and of digits, without case; numbers are words like any other, so that
a problem that only looks like a benchmark's is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parathinker.benchmarks import load_benchmark
from parathinker.data.schema import Question, read_questions

SHORTEST_RUN = 8
"""Words of a benchmark's question from which on it is looked for inside longer questions."""

_WORD = re.compile(r"\d+|[^\W\d_]+")


@dataclass(frozen=True)
class Match:
    """Where a training question meets a benchmark."""

    benchmark: str
    benchmark_id: str
    benchmark_question: str
    shared: str
    """The words that both have."""


class Decontaminator:
    """Looks questions up in benchmarks.

    Args:
        benchmarks: questions by the name of their benchmark.
        ngram: how many words in a row tell that a question was copied.
    """

    def __init__(self, benchmarks: Mapping[str, Sequence[Question]], ngram: int = 13) -> None:
        self._exact: dict[tuple[str, ...], tuple[str, Question]] = {}
        self._runs: dict[int, dict[tuple[str, ...], tuple[str, Question]]] = {}
        for name, questions in benchmarks.items():
            for question in questions:
                words = words_of(question.question)
                here = (name, question)
                self._exact.setdefault(words, here)
                length = min(ngram, len(words))
                if length >= min(SHORTEST_RUN, ngram):
                    runs = self._runs.setdefault(length, {})
                    for run in _runs(words, length):
                        runs.setdefault(run, here)

    def match(self, question: str) -> Match | None:
        """The benchmark's question that this one repeats, None if it is clear."""
        words = words_of(question)
        if words in self._exact:
            return _match(self._exact[words], words)
        for length, runs in sorted(self._runs.items(), reverse=True):
            for run in _runs(words, length):
                if run in runs:
                    return _match(runs[run], run)
        return None


def words_of(text: str) -> tuple[str, ...]:
    """The words that questions are compared by."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def read_benchmarks(names: Sequence[str], files: Sequence[str]) -> dict[str, list[Question]]:
    """The package's benchmarks, and files of questions, which are named by their paths.

    Raises:
        UsageError: an unknown benchmark, or a file that holds no questions.
    """
    named = {name: load_benchmark(name) for name in names}
    return {**named, **{file: list(read_questions(Path(file))) for file in files}}


def _runs(words: tuple[str, ...], length: int) -> list[tuple[str, ...]]:
    return [words[i : i + length] for i in range(len(words) - length + 1)]


def _match(found: tuple[str, Question], shared: tuple[str, ...]) -> Match:
    name, question = found
    own_id = str(question.metadata.get("id", question.id))
    return Match(name, own_id, question.question, " ".join(shared))
