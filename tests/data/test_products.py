"""The products task: a right teacher, honest slips, and a held-out split that holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.data import products
from parathinker.data.multiplication import Teacher
from parathinker.data.products import HEAD, NINES, SEVENS, Problem

ROUTE = st.integers(1, HEAD.routes)


@pytest.mark.parametrize("teacher", products.TEACHERS.values())
@given(data=st.data(), thought_id=ROUTE)
def test_teachers_are_right_on_every_route_and_always_write_the_same_layout(
    teacher: Teacher, data: st.DataObject, thought_id: int
) -> None:
    a, b = (data.draw(st.integers(0, 10**teacher.digits - 1)) for _ in range(2))
    trace = products.work_out(Problem("", a, b), thought_id, teacher=teacher)
    assert int(products.parse_answer(trace) or -1) == a * b
    assert len(trace) == len(products.work_out(Problem("", 1, 1), teacher=teacher))
    assert trace.endswith(teacher.answer_line(a * b))


@given(ROUTE)
def test_a_route_takes_every_digit_once(thought_id: int) -> None:
    assert sorted(HEAD.route(thought_id)[1]) == list(range(HEAD.digits))


def test_every_thought_id_has_a_route_of_its_own() -> None:
    problem = Problem("", 482137, 768914)
    traces = {products.work_out(problem, i + 1) for i in range(HEAD.routes)}
    assert len(traces) == HEAD.routes


def test_slips_happen_about_as_often_as_asked_and_are_carried_forward() -> None:
    rng = random.Random(0)
    problem = Problem("", 482137, 768914)
    truth = products.work_out(problem)
    slipped = [products.work_out(problem, 1, 0.05, rng) for _ in range(2000)]
    assert slipped.count(truth) / 2000 == pytest.approx(0.95**HEAD.digits, abs=0.03)
    one = next(text for text in slipped if text != truth)
    assert products.parse_answer(one) != products.parse_answer(truth)


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1), ROUTE, st.integers(0))
def test_casting_out_nines_finds_all_wrong_answers_but_those_of_the_same_remainder(
    a: int, b: int, thought_id: int, seed: int
) -> None:
    text = products.work_out(Problem("", a, b), thought_id, 0.2, random.Random(seed), NINES)
    *_, check, answer = text.splitlines()
    found = int(products.parse_answer(answer) or -1)
    assert check[-1] == ("=" if found % 9 == a * b % 9 else "!")
    assert NINES.finished(a, b, text, thought_id) == (text, len(text) - len(f"{check}\n{answer}"))


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1), ROUTE, st.integers(0))
def test_casting_out_sevens_too_finds_all_but_those_of_the_same_remainder_by_both(
    a: int, b: int, thought_id: int, seed: int
) -> None:
    text = products.work_out(Problem("", a, b), thought_id, 0.2, random.Random(seed), SEVENS)
    *_, nines, sevens, answer = text.splitlines()
    wrong_by = int(products.parse_answer(answer) or -1) - a * b
    assert nines[-1] == ("=" if wrong_by % 9 == 0 else "!")
    assert sevens[-1] == ("=" if wrong_by % 63 == 0 else "!")
    assert SEVENS.trusts(text) == (wrong_by % 63 == 0)
    factors = sevens.removeprefix("7:").split("=")[0].split("*")
    assert {int(one[-1]) for one in factors} == {a % 7, b % 7}
    checked = len(text) - len(f"{nines}\n{sevens}\n{answer}")
    assert SEVENS.finished(a, b, text, thought_id) == (text, checked)


def test_the_check_goes_by_what_a_path_came_to_whatever_it_said_of_that() -> None:
    text = products.work_out(Problem("", 37, 58), teacher=NINES)
    assert text.endswith("\n9:711111*844444=4>612444444444=\nAnswer:         2146")
    worked = text[: text.index("9:7")]
    assert NINES.finished(37, 58, f"{worked}9:what?\nAnswer: 7", 1) == (text, len(worked))
    assert NINES.finished(37, 58, worked[: len(worked) // 2], 1) is None
    assert HEAD.finished(37, 58, worked, 1) is None


@pytest.mark.parametrize(
    ("question", "text", "verdict"),
    [
        ("What is 12 * 3?", "Answer: 36", True),
        ("Solve the following multiplication: 12 * 3. Give only", "Answer:   36", True),
        ("12x3", "Answer: 0036", True),
        ("What is 12 * 3?", "Answer: 37", False),
        ("What is 12 * 3?", "36", False),
        ("What is 12 + 3?", "Answer: 15", None),
        ("What is 1.5 * 3?", "Answer: 4", None),
        ("What is 2 * 3 * 4?", "Answer: 24", None),
    ],
)
def test_answers_are_checked(question: str, text: str, verdict: bool | None) -> None:
    assert products.check(question, text) is verdict


def test_reasoning_gym_scores_its_own_problems() -> None:
    for entry in products.held_out_problems(20):
        trace = products.work_out(products.problem_of(entry))
        assert products.score(products.parse_answer(trace), entry) == 1.0
        assert products.score("12", entry) < 1.0
        assert products.score(None, entry) < 1.0
