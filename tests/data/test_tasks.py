"""Whether answers check out, without reasoning-gym."""

from __future__ import annotations

import pytest

from parathinker.data.tasks import Verdict, judge

QUESTION = "What is 12 * 12?"


@pytest.mark.parametrize(
    ("text", "correct"),
    [("Answer: 144", True), ("Answer: 00144", True), ("Answer: 145", False), ("144", False)],
)
def test_task_checks_its_own_questions(text: str, correct: bool) -> None:
    assert judge("products", QUESTION, text) == Verdict(correct, "144")


@pytest.mark.parametrize(("task", "question"), [("products", "Who?"), (None, QUESTION)])
def test_nothing_is_said_about_what_is_not_known(task: str | None, question: str) -> None:
    assert judge(task, question, "Answer: 144").correct is None


@pytest.mark.parametrize(
    ("task", "text", "reference", "correct"),
    [
        (None, "so it is 1,234.50 at last.", "01234.5", True),
        (None, "first 1234, then 1235", "1234", False),
        (None, "no number at all", "7", False),
        (None, " Paris ", "Paris", True),
        (None, "Paris it is", "Paris", False),
        (None, "-3", "3", False),
        ("products", "7 and 8, Answer: 56", "56", True),
        ("products", "no answer, but 56", "56", False),
    ],
)
def test_reference_answer_decides_where_one_is_given(
    task: str | None, text: str, reference: str, correct: bool
) -> None:
    assert judge(task, "Who?", text, reference) == Verdict(correct, reference)
