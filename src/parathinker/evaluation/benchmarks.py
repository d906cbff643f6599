r"""What models are measured on: a name, questions that can be scored, and how they are asked.

A benchmark is one of :data:`DECLARED`, or whatever :func:`parathinker.data.sources.gather` takes: a
file or a data set of the hub with questions and answers, or ``reasoning-gym:TASK``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parathinker import benchmarks as packaged
from parathinker.data import products, sums
from parathinker.data.files import read_rows
from parathinker.data.schema import Question, question_id
from parathinker.data.sources import SourceOptions, gather
from parathinker.data.sources.layouts import layout_for
from parathinker.data.sources.procedural import PREFIX, draw
from parathinker.errors import UsageError

BARE = "{question}"
BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."


@dataclass(frozen=True)
class Benchmark:
    """Questions with answers."""

    name: str
    questions: tuple[Question, ...]
    prompt: str
    """What the model is asked; ``{question}`` stands for the question's text."""
    remark: str = ""
    """What of it is left out, if anything."""

    def ask(self, question: Question) -> str:
        """The prompt of one question."""
        return self.prompt.format(question=question.question)


@dataclass(frozen=True)
class Selection:
    """Which questions of a benchmark."""

    limit: int | None = None
    """The first so many; of what is drawn at random, so many."""
    seed: int = 0
    """Of what is drawn at random."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of reasoning-gym's tasks."""
    split: str = "train"
    """Of folders and data sets of the hub."""
    subset: str | None = None
    """The configuration, of the same."""


@dataclass(frozen=True)
class Declaration:
    """A benchmark that has a name."""

    questions: Callable[[Selection], list[Question]]
    prompt: str
    options: tuple[str, ...] = ()
    """Names of the options that it takes."""


DRAWN = 500
"""Problems drawn from a task where no number is given."""
_DRAWS = 3
_SEEDS = 2**24
"""Between the seeds of products: near ones draw nearly the same problems."""


def _products(selection: Selection) -> list[Question]:
    given = selection.options.get("digits", str(products.DIGITS))
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"products: digits should be a whole number from 1; got {given!r}")
    entries = products.held_out_problems(
        selection.limit or DRAWN, int(given), products.HELD_OUT_SEED + _SEEDS * selection.seed
    )
    return [_of_task("products", entry) for entry in entries]


def _sums(selection: Selection) -> list[Question]:
    given = selection.options.get("terms", str(sums.MEASURED_TERMS))
    if not given.isdecimal() or int(given) < 2:
        raise UsageError(f"sums: terms should be a whole number from 2; got {given!r}")
    entries = sums.held_out_problems(
        selection.limit or DRAWN, int(given), sums.HELD_OUT_SEED + _SEEDS * selection.seed
    )
    return [_of_task(sums.TASK, entry) for entry in entries]


def _of_task(task: str, entry: dict[str, Any]) -> Question:
    metadata = {"task": task, "entry": entry}
    question = entry["question"]
    return Question(question_id(question), question, str(entry["answer"]), task, metadata)


def _packaged(name: str) -> Declaration:
    return Declaration(lambda selection: packaged.load_benchmark(name), BOXED)


DECLARED: dict[str, Declaration] = {
    **{name: _packaged(name) for name in packaged.BENCHMARKS},
    # The embedded model's task: problems that no training run of this package draws.
    "products": Declaration(_products, BARE, ("digits",)),
    # SmolLM2's, likewise.
    "sums": Declaration(_sums, BARE, ("terms",)),
}


def load(name: str, selection: Selection, prompt: str | None = None) -> Benchmark:
    """A benchmark's questions, in an order that is always the same.

    Args:
        prompt: by default the benchmark's own, or the bare question.

    Raises:
        UsageError: there is no such benchmark, file or task; a line of a file is broken or lacks a
            field; no question can be scored.
    """
    declared, remark = DECLARED.get(name), ""
    if declared is not None:
        for option in selection.options:
            if option not in declared.options:
                known = ", ".join(declared.options) or "none"
                raise UsageError(f"benchmark {name} has no option {option!r}; it has: {known}")
        questions = declared.questions(selection)
    else:
        questions, remark = _gathered(name, selection)
    prompt = prompt or (declared.prompt if declared else BARE)
    try:
        if "{question}" not in prompt:
            raise ValueError("it has no {question}")
        prompt.format(question="")
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"prompt should be a text with {{question}} in it, other braces doubled; {error}"
        ) from None
    return Benchmark(name, tuple(questions[: selection.limit]), prompt, remark)


def _gathered(name: str, selection: Selection) -> tuple[list[Question], str]:
    """Questions, and what is left out."""
    try:
        if name.startswith(PREFIX):
            return _drawn(name, selection)
        if Path(name).is_file():
            _check_rows(Path(name))
        options = SourceOptions(
            require_answer=True,
            limit=selection.limit,
            split=selection.split,
            subset=selection.subset,
        )
        gathered = gather([name], options)
    except UsageError as error:
        close = difflib.get_close_matches(name, DECLARED, 1)
        hint = f"did you mean {close[0]}?" if close else f"with a name: {', '.join(DECLARED)}"
        raise UsageError(f"benchmark {name}: {error} ({hint})") from error
    if not gathered.questions:
        raise UsageError(f"benchmark {name} has no question with a reference answer")
    (tally,) = gathered.tallies
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in tally.dropped.most_common())
    remark = (
        f"{name}: of {tally.rows:,} rows {sum(tally.dropped.values()):,} are left out: {dropped}"
    )
    return gathered.questions, remark if dropped else ""


def _drawn(name: str, selection: Selection) -> tuple[list[Question], str]:
    """Problems of a task in the order of their draw: more of them begin with fewer."""
    limit = selection.limit or DRAWN
    # Easy tasks draw many problems twice.
    draws = draw(name, _DRAWS * limit, selection.seed, selection.options)
    found: dict[str, Question] = {}
    for question, _ in draws:
        if question is not None:
            found.setdefault(question.id, question)
        if len(found) == limit:
            break
    if not found:
        raise UsageError("none of its problems can be scored")
    short = f"{name}: of {limit:,} problems asked for, {len(found):,} different ones were drawn"
    return list(found.values()), short if len(found) < limit else ""


def _check_rows(file: Path) -> None:
    """Refuse a file that lacks something: a score over what is left would be of something else."""
    layout = None
    for where, row in read_rows(file):
        layout = layout or layout_for(row, str(file))
        for what, found in (("question", layout.question_of), ("answer", layout.answer_of)):
            if found(row) is None:
                raise UsageError(f"{where} has no {what}; its fields: {', '.join(row)}")
