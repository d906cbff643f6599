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
from parathinker.data.sources.procedural import PREFIX
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
    declared = DECLARED.get(name)
    if declared is not None:
        for option in selection.options:
            if option not in declared.options:
                known = ", ".join(declared.options) or "none"
                raise UsageError(f"benchmark {name} has no option {option!r}; it has: {known}")
        questions = declared.questions(selection)
    else:
        questions = _gathered(name, selection)
    prompt = prompt or (declared.prompt if declared else BARE)
    try:
        if "{question}" not in prompt:
            raise ValueError("it has no {question}")
        prompt.format(question="")
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"prompt should be a text with {{question}} in it, other braces doubled; {error}"
        ) from None
    return Benchmark(name, tuple(questions[: selection.limit]), prompt)


def _gathered(name: str, selection: Selection) -> list[Question]:
    drawn = name.startswith(PREFIX)
    limit = (selection.limit or DRAWN) if drawn else selection.limit
    options = SourceOptions(
        # A task's own scorer may know what is right without one.
        require_answer=not drawn,
        # Easy tasks draw many problems twice.
        size=_DRAWS * (limit or 1),
        limit=limit,
        seed=selection.seed if drawn else None,
        task_options=selection.options,
    )
    try:
        if not drawn and Path(name).is_file():
            _check_rows(Path(name))
        questions = gather([name], options).questions
    except UsageError as error:
        close = difflib.get_close_matches(name, DECLARED, 1)
        hint = f"did you mean {close[0]}?" if close else f"with a name: {', '.join(DECLARED)}"
        raise UsageError(f"benchmark {name}: {error} ({hint})") from error
    if not questions:
        raise UsageError(f"benchmark {name} has no question with a reference answer")
    return questions


def _check_rows(file: Path) -> None:
    """Refuse a file that lacks something: a score over what is left would be of something else."""
    layout = None
    for where, row in read_rows(file):
        layout = layout or layout_for(row, str(file))
        for what, found in (("question", layout.question_of), ("answer", layout.answer_of)):
            if found(row) is None:
                raise UsageError(f"{where} has no {what}; its fields: {', '.join(row)}")
