"""The products task: a right teacher, honest slips, and a held-out split that holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.data import products
from parathinker.data.products import Problem, ProductsSource
from parathinker.errors import UsageError

FACTOR = st.integers(0, 10**products.DIGITS - 1)


@given(FACTOR, FACTOR)
def test_the_teacher_is_right_and_always_writes_the_same_layout(a: int, b: int) -> None:
    trace = products.work_out(Problem("", a, b))
    answer = products.parse_answer(trace)
    assert answer is not None
    assert int(answer) == a * b
    assert len(trace) == len(products.work_out(Problem("", 1, 1)))


def test_slips_happen_about_as_often_as_asked_and_are_carried_forward() -> None:
    rng = random.Random(0)
    problem = Problem("", 48213, 76891)
    truth = products.work_out(problem)
    right = sum(products.work_out(problem, 0.05, rng) == truth for _ in range(2000)) / 2000
    assert right == pytest.approx(0.95 ** (2 * products.DIGITS), abs=0.03)


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


def test_held_out_problems_never_come_up_in_training() -> None:
    held_out = products.held_out_problems(300)
    assert len(held_out) == 300
    problems = [products.problem_of(entry) for entry in held_out]
    assert len({(p.a, p.b) for p in problems}) == 300
    assert all(products.is_held_out(p.a, p.b) and products.is_held_out(p.b, p.a) for p in problems)
    for seed in (1, 1000, 1001):
        source = ProductsSource(seed, digits=(1, 2, 3, 4, 5), slip_rates=(0.1,))
        for index in range(500):
            drawn = products.parse_question(source.example(index, 1).question)
            assert drawn is not None
            assert not products.is_held_out(drawn.a, drawn.b)


def test_reasoning_gym_scores_its_own_problems() -> None:
    for entry in products.held_out_problems(20):
        trace = products.work_out(products.problem_of(entry))
        assert products.score(products.parse_answer(trace), entry) == 1.0
        assert products.score("12", entry) < 1.0
        assert products.score(None, entry) < 1.0


def test_examples_are_the_same_on_every_run_and_flawed_paths_are_not_learnt() -> None:
    source = ProductsSource(3, slip_rates=(0.2,))
    example = source.example(7, 6)
    assert example == ProductsSource(3, slip_rates=(0.2,)).example(7, 6)
    assert example != source.example(8, 6)
    problem = products.parse_question(example.question)
    assert problem is not None
    truth = products.work_out(problem)
    for path in example.paths:
        assert path.learn == (path.text == truth)
    assert example.summary == truth.splitlines()[-1]
    assert not all(path.learn for path in example.paths)


def test_digits_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and"):
        ProductsSource(0, digits=(9,))
