"""Questions that reasoning-gym makes: scored from the file, mixed, with the tasks' own options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parathinker.data.products import is_held_out, problem_of
from parathinker.data.schema import Question, read_questions, write_questions
from parathinker.data.sources import SourceOptions, gather
from parathinker.errors import UsageError


def read(source: str, **options: Any) -> list[Question]:
    return gather([source], SourceOptions(**options)).questions


@pytest.mark.parametrize(
    "task", ["gsm_symbolic", "chain_sum", "leg_counting", "simple_equations", "products"]
)
def test_problems_of_reasoning_gym_are_scored_from_the_file(tmp_path: Path, task: str) -> None:
    import reasoning_gym

    drawn = read(f"reasoning-gym:{task}", size=12, seed=3)
    write_questions(tmp_path / "q.jsonl", drawn)
    questions = list(read_questions(tmp_path / "q.jsonl"))
    assert questions == drawn
    assert len(questions) > 8
    score = reasoning_gym.get_score_answer_fn(task)
    for question in questions:
        assert question.source == f"reasoning-gym:{task}"
        assert question.metadata["task"] == task
        assert score(question.answer, question.metadata["entry"]) == 1.0
        assert score("-123456789", question.metadata["entry"]) < 0.5


def test_options_of_tasks_are_heeded_and_draws_repeat() -> None:
    options = {"min_digits": "3", "max_digits": "3"}
    drawn = read("reasoning-gym:products", size=10, seed=0, task_options=options)
    factors = [problem_of(q.metadata["entry"]) for q in drawn]
    assert all(100 <= p.a <= 999 and 100 <= p.b <= 999 for p in factors)
    assert read("reasoning-gym:products", size=10, seed=0, task_options=options) == drawn
    assert read("reasoning-gym:products", size=10, seed=1, task_options=options) != drawn


def test_products_that_evaluation_uses_are_not_drawn() -> None:
    gathered = gather(["reasoning-gym:products"], SourceOptions(size=300))
    problems = [problem_of(q.metadata["entry"]) for q in gathered.questions]
    assert not any(is_held_out(p.a, p.b) for p in problems)
    assert gathered.tallies[0].dropped["held out for evaluation"] > 0


def test_tasks_are_mixed_by_weight_each_with_its_options() -> None:
    options = {"chain_sum.min_terms": "2", "chain_sum.max_terms": "2"}
    drawn = read("reasoning-gym:chain_sum=3,leg_counting", size=200, task_options=options)
    tasks = [q.metadata["task"] for q in drawn]
    assert 110 < tasks.count("chain_sum") < 190
    assert set(tasks) == {"chain_sum", "leg_counting"}
    entries = [q.metadata["entry"] for q in drawn if q.metadata["task"] == "chain_sum"]
    assert {entry["metadata"]["num_terms"] for entry in entries} == {2}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("reasoning-gym:gsm_symbolik", {}, "did you mean gsm_symbolic"),
        ("reasoning-gym:zzzzzz", {}, "known: .*chain_sum"),
        ("reasoning-gym:chain_sum", {"digits": "3"}, "no option 'digits'; it has min_terms"),
        ("reasoning-gym:chain_sum", {"size": "3"}, "no option 'size'"),
        ("reasoning-gym:chain_sum", {"min_terms": "0"}, "does not take"),
        ("reasoning-gym:chain_sum", {"products.min_digits": "3"}, "products is none of the tasks"),
        ("reasoning-gym:chain_sum=much", {}, "weight should be a number, got 'much'"),
        ("reasoning-gym:chain_sum=0", {}, "weight should be above 0"),
    ],
)
def test_what_reasoning_gym_does_not_have_is_refused(
    source: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(source, size=2, task_options=options)
