"""Several sources together: no question twice, so many of each, shuffled by seed."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from parathinker.data.schema import Question
from parathinker.data.sources.reading import SourceOptions, Tally, read_source
from parathinker.data.sources.teacher_text import TeacherText

DUPLICATE = "duplicate"
BEYOND_LIMIT = "beyond --limit"

Watch = Callable[[Tally], None]
KeepTexts = Callable[[str, str, list[TeacherText]], None]


@dataclass(frozen=True)
class Gathered:
    """Questions of all sources, and what became of each source's rows."""

    questions: list[Question]
    tallies: list[Tally]


def gather(
    sources: Iterable[str],
    options: SourceOptions,
    watch: Watch | None = None,
    keep_texts: KeepTexts | None = None,
) -> Gathered:
    """Questions of all sources, one after the other; the first of two that read alike is kept.

    With a seed each source is read to its end, and its questions come in an order that follows
    from seed and text alone; ``limit`` then takes a random share instead of the first ones.
    Questions are held in memory; what teachers wrote is not.

    Args:
        sources: see :mod:`parathinker.data.sources`.
        options: the same for all.
        watch: is told after each usable row.
        keep_texts: is given a question's id, the source, and what teachers wrote about it; also of
            duplicates, and of questions that ``limit`` then leaves out.
    """
    gathered, seen, tallies = list[Question](), set[str](), list[Tally]()
    for source in sources:
        tally = Tally(source)
        tallies.append(tally)
        fresh = _fresh(source, options, tally, seen, watch, keep_texts)
        if options.seed is None:
            taken = _first(fresh, options.limit)
        else:
            taken = _shuffled(fresh, options.seed, options.limit)
            beyond = tally.rows - sum(tally.dropped.values()) - len(taken)
            if beyond:
                tally.dropped[BEYOND_LIMIT] = beyond
        tally.kept = len(taken)
        seen.update(question.id for question in taken)
        gathered += taken
    return Gathered(gathered, tallies)


def _fresh(
    source: str,
    options: SourceOptions,
    tally: Tally,
    seen: set[str],
    watch: Watch | None,
    keep_texts: KeepTexts | None,
) -> Iterator[Question]:
    """A source's questions that neither it nor those before had yet."""
    own: set[str] = set()
    for question, texts in read_source(source, options, tally, keep_texts is not None):
        if watch is not None:
            watch(tally)
        if keep_texts is not None and texts:
            keep_texts(question.id, source, texts)
        if question.id in seen or question.id in own:
            tally.dropped[DUPLICATE] += 1
            continue
        own.add(question.id)
        yield question


def _first(questions: Iterator[Question], limit: int | None) -> list[Question]:
    taken: list[Question] = []
    for question in questions:
        taken.append(question)
        if len(taken) == limit:
            break
    return taken


def _shuffled(questions: Iterator[Question], seed: int, limit: int | None) -> list[Question]:
    def place(question: Question) -> bytes:
        return hashlib.sha256(f"{seed}/{question.id}".encode()).digest()

    if limit is None:
        return sorted(questions, key=place)
    return heapq.nsmallest(limit, questions, key=place)
