"""Tasks that the package can check answers of, by the name that a model's config gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from parathinker.data import products, sums
from parathinker.errors import CheckpointError
from parathinker.modeling.folders import EXAMPLES

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Task:
    """What checking answers of one task takes; needs nothing beyond the base installation."""

    parse_answer: Callable[[str], str | None]
    """The answer that a text ends with."""
    solve: Callable[[str], str | None]
    """The right answer to a question; None if the question is not of this task."""
    check: Callable[[str, str], bool | None]
    """Whether a text answers a question rightly; None if the question is not of this task."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer checks out."""

    correct: bool | None
    """None where nobody knows."""
    expected: str | None = None
    """The right answer, where it is known."""


@dataclass(frozen=True)
class ExampleProblem:
    """A held-out problem that comes with a model."""

    question: str
    answer: str


def _solve_product(question: str) -> str | None:
    problem = products.parse_question(question)
    return None if problem is None else str(problem.answer)


def _solve_sum(question: str) -> str | None:
    problem = sums.parse_question(question)
    return None if problem is None else str(problem.answer)


TASKS = {
    "products": Task(products.parse_answer, _solve_product, products.check),
    "sums": Task(sums.parse_answer, _solve_sum, sums.check),
}


def judge(task_name: str | None, question: str, text: str, reference: str | None = None) -> Verdict:
    """Check ``text`` against a reference answer, or by the task's own rules if none is given.

    Args:
        task_name: the task that the model was made for; None or an unknown one checks nothing by
            itself.
        question: what was asked.
        text: what was answered.
        reference: the right answer; numbers are compared as numbers.
    """
    task = TASKS.get(task_name or "")
    if reference is not None:
        return Verdict(_matches(task, text, reference.strip()), reference.strip())
    if task is None:
        return Verdict(None)
    return Verdict(task.check(question, text), task.solve(question))


def read_example_problems(folder: Path) -> list[ExampleProblem]:
    """The held-out problems in a model's folder.

    Raises:
        CheckpointError: there are none, or a line is not as it should be.
    """
    file = folder / EXAMPLES
    if not file.is_file():
        raise CheckpointError(
            f"the model in {folder} comes with no example problems ({EXAMPLES}); ask a question "
            "of your own instead"
        )
    problems = []
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file} is not valid UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            problems.append(ExampleProblem(str(raw["question"]), str(raw["answer"])))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file}:{number}: should be a JSON object with 'question' and 'answer'"
            ) from error
    if not problems:
        raise CheckpointError(f"{file} holds no example problems")
    return problems


def _matches(task: Task | None, text: str, reference: str) -> bool:
    number = _as_number(reference)
    given = text.strip()
    if task is not None:
        given = task.parse_answer(text) or ""
    elif number is not None:
        found = _NUMBER.findall(text)
        given = found[-1] if found else ""
    if number is None:
        return given.strip() == reference
    return _as_number(given) == number


def _as_number(text: str) -> Decimal | None:
    text = text.strip()
    return Decimal(text.replace(",", "")) if _NUMBER.fullmatch(text) else None
