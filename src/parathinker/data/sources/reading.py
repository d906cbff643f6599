"""One source, row by row: questions, the teachers' texts beside them, and what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parathinker.data.build.decontaminate import Decontaminator
from parathinker.data.schema import Question, question_id
from parathinker.data.sources import procedural
from parathinker.data.sources.layouts import NICKNAMES, QUESTIONS, Layout, layout_for, text_of
from parathinker.data.sources.rows import source_rows
from parathinker.data.sources.teacher_text import TeacherText
from parathinker.errors import UsageError

NO_QUESTION = "no question"
NO_ANSWER = "no answer"
TOO_EASY = "too easy"
NO_DIFFICULTY = "no difficulty"


@dataclass(frozen=True)
class SourceOptions:
    """What may be asked of sources."""

    layout: str | None = None
    """By default told from the columns."""
    question_column: str | None = None
    answer_column: str | None = None
    samples_column: str | None = None
    subset: str | None = None
    """Configuration of a data set on the hub."""
    split: str = "train"
    require_answer: bool = False
    """Drop questions without a reference answer."""
    min_difficulty: float | None = None
    clear_of: Decontaminator | None = None
    """Drop questions of these benchmarks."""
    limit: int | None = None
    """Questions to keep of each source."""
    seed: int | None = None
    """Shuffle; the same questions come in the same order whatever file they lie in."""
    size: int = 1000
    """Problems to draw from reasoning-gym."""
    task_options: Mapping[str, str] = field(default_factory=dict)
    """Of reasoning-gym's tasks."""

    def __post_init__(self) -> None:
        for name in ("limit", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} should be 1 or more, got {value}")


@dataclass
class Tally:
    """What became of a source's rows."""

    source: str
    layout: str = ""
    rows: int = 0
    """Read; with a limit and no seed, reading ends when it is reached."""
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """How many rows by reason."""


def read_source(
    source: str, options: SourceOptions, tally: Tally, with_texts: bool = True
) -> Iterator[tuple[Question, list[TeacherText]]]:
    """A source's usable questions, in its order, with what teachers wrote about each.

    ``options.limit`` and ``options.seed`` are not for a single row to heed: see
    :func:`~parathinker.data.sources.gather.gather`. Nor is what is kept counted here.

    Args:
        source: see :mod:`parathinker.data.sources`.
        options: what to take of it.
        tally: counts rows, and those dropped by reason.
        with_texts: whether to read what teachers wrote, often nearly all that there is to read.

    Raises:
        UsageError: no such source, no layout that fits, or a filter that has nothing to go by.
    """
    if source.startswith(procedural.PREFIX):
        yield from _read_procedural(source, options, tally)
        return
    layout: Layout | None = None

    def tell(columns: Iterable[str]) -> Layout:
        nonlocal layout
        layout = _layout(columns, source, options)
        tally.layout = layout.name
        return layout

    def wanted(columns: list[str]) -> list[str]:
        told = tell(columns)
        return columns if with_texts else told.columns_read(columns)

    named = public_name(source)
    for where, row in source_rows(source, options.subset, options.split, wanted):
        layout = layout or tell(row)
        tally.rows += 1
        question = _question(layout, row, where, named)
        if question is None:
            tally.dropped[NO_QUESTION] += 1
            continue
        reason = _reason_to_drop(question, layout, row, options) or _leak(question, options)
        if reason is not None:
            tally.dropped[reason] += 1
            continue
        yield question, layout.texts(row) if with_texts else []


def read_samples(
    source: str, options: SourceOptions | None = None
) -> Iterator[tuple[Question, list[TeacherText]]]:
    """A source's questions that teachers have written about already, and what they wrote.

    See :func:`read_source`; questions without such texts are left out.
    """
    for question, texts in read_source(source, options or SourceOptions(), Tally(source)):
        if texts:
            yield question, texts


def _read_procedural(
    source: str, options: SourceOptions, tally: Tally
) -> Iterator[tuple[Question, list[TeacherText]]]:
    if options.min_difficulty is not None:
        raise UsageError(f"{source} knows no difficulty for --min-difficulty; use its own options")
    tally.layout = "reasoning-gym"
    drawn = procedural.draw(source, options.size, options.seed or 0, options.task_options)
    for question, reason in drawn:
        tally.rows += 1
        if question is not None and options.require_answer and question.answer is None:
            question, reason = None, NO_ANSWER
        if question is not None and (leak := _leak(question, options)) is not None:
            question, reason = None, leak
        if question is None:
            tally.dropped[reason] += 1
        else:
            yield question, []


def _question(layout: Layout, row: dict[str, Any], where: str, named: str) -> Question | None:
    if layout is QUESTIONS:
        return Question.from_dict(row, where) if text_of(row.get("question")) else None
    text = layout.question_of(row)
    if text is None:
        return None
    metadata = {name: row[name] for name in layout.kept if _says_something(row.get(name))}
    return Question(question_id(text), text, layout.answer_of(row), named, metadata)


def _says_something(value: Any) -> bool:
    return isinstance(value, str | int | float) and value == value  # NaN is no JSON


def _reason_to_drop(
    question: Question, layout: Layout, row: dict[str, Any], options: SourceOptions
) -> str | None:
    if options.require_answer and question.answer is None:
        return NO_ANSWER
    if options.min_difficulty is None:
        return None
    difficulty = layout.difficulty_of(row)
    if difficulty is None:
        return NO_DIFFICULTY
    return TOO_EASY if difficulty < options.min_difficulty else None


def _leak(question: Question, options: SourceOptions) -> str | None:
    match = None if options.clear_of is None else options.clear_of.match(question.question)
    return None if match is None else f"in {match.benchmark}"


def _layout(columns: Iterable[str], source: str, options: SourceOptions) -> Layout:
    layout = layout_for(
        columns,
        source,
        options.layout,
        options.question_column,
        options.answer_column,
        options.samples_column,
    )
    if options.min_difficulty is not None and layout.difficulty is None:
        raise UsageError(
            f"{source}, of the layout {layout.name}, knows no difficulty for --min-difficulty; "
            "read it by a command of its own"
        )
    return layout


def public_name(source: str) -> str:
    """A source's name in the data: no one's folders, which mean nothing elsewhere."""
    return Path(source).name if Path(source).exists() else NICKNAMES.get(source, source)
