"""Sums: problems of reasoning-gym's, worked out along routes."""

from __future__ import annotations

import re

import pytest
import reasoning_gym

from parathinker.data import sums
from parathinker.data.schema import Example
from parathinker.data.sums import Problem, SumsSource
from parathinker.errors import UsageError

SUM = Problem("?", (261, 120, 507))


def test_paths_are_the_documented_ones() -> None:
    assert sums.work_out(SUM) == "507 + 261 = 768 + 120 = 888\nAnswer: 888"
    assert sums.work_out(SUM, 2) == "120 + 507 = 627 + 261 = 888\nAnswer: 888"
    # Backwards from the last.
    assert sums.work_out(SUM, 9) == "507 + 120 = 627 + 261 = 888\nAnswer: 888"


def test_every_route_takes_each_term_once_and_the_answer_is_reasoning_gyms() -> None:
    scorer = reasoning_gym.create_dataset(sums.TASK, size=1)
    for entry in sums.held_out_problems(5):
        problem = sums.problem_of(entry)
        for thought_id in range(1, 17):
            chain, last = sums.work_out(problem, thought_id).splitlines()
            total, *steps = re.split(r" (?=\+)", chain)
            taken = [int(total)]
            for step in steps:
                added = re.fullmatch(r"\+ (\d+) = (\d+)", step)
                assert added is not None
                taken.append(int(added[1]))
                assert sum(taken) == int(added[2])
            assert sorted(taken) == sorted(problem.terms)
            assert scorer.score_answer(sums.parse_answer(last), entry) == 1.0
        assert len({sums.work_out(problem, i) for i in range(1, 17)}) == 16


def test_a_sum_is_found_in_a_question_and_its_answer_checked() -> None:
    for entry in sums.held_out_problems(20):
        assert sums.parse_question(entry["question"]) == sums.problem_of(entry)
    assert sums.check("What is 2 + 3?", "2 + 3 = 5\nAnswer: 5") is True
    assert sums.check("What is 2 + 3?", "Answer: 6") is False
    assert sums.check("What is 2 + 3?", "5") is False
    for other in ("What is 2 * 3 + 4?", "2.5 + 1", "Why?", "What is 2 + 3 or 4 + 5?"):
        assert sums.parse_question(other) is None
        assert sums.check(other, "Answer: 5") is None


def test_an_example_is_the_same_on_every_run_and_has_a_summary_if_asked_for() -> None:
    first, again = SumsSource(1, summary=True), SumsSource(1, summary=True)
    examples: list[Example] = [first.example(i, 2) for i in range(20)]
    assert examples == [again.example(i, 2) for i in range(20)]
    assert {example.question.count("+") for example in examples} == {3, 4, 5, 6, 7}
    for example in examples:
        assert {path.text.rsplit("\n", 1)[1] for path in example.paths} == {example.summary}
    assert SumsSource(1).example(0, 1).summary is None
    assert SumsSource(1, terms=(2, 2)).example(0, 1).question.count("+") == 1


def test_held_out_problems_come_once_and_are_not_drawn_in_training() -> None:
    held_out = {entry["question"] for entry in sums.held_out_problems(100)}
    assert len(held_out) == 100
    source = SumsSource(0, terms=(8, 8))
    assert not held_out & {source.example(i, 1).question for i in range(300)}


def test_more_paths_than_thought_ids_are_refused() -> None:
    with pytest.raises(UsageError, match="9 paths, but thought ids for 8 only"):
        SumsSource(0, max_paths=8).example(0, 9)
