"""Sums: problems of reasoning-gym's, worked out along routes."""

from __future__ import annotations

import re

import pytest
import reasoning_gym

from parathinker.data import sums
from parathinker.data.schema import Example
from parathinker.data.sums import Addend, Problem, SumsSource
from parathinker.errors import UsageError

CHAIN = Problem("?", (Addend(1, 361), Addend(-1, 220), Addend(1, 607), Addend(-1, 879)))
LEGS = Problem("?", (Addend(1, 31, 14), Addend(1, 25, 4), Addend(1, 51, 2)))


def test_paths_are_the_documented_ones() -> None:
    assert sums.work_out(CHAIN).splitlines() == [
        "361 + 607 = 968",
        "968 - 220 = 748",
        "748 - 879 = -131",
        "Answer: -131",
    ]
    legs = ["31 * 14 = 434", "434 + 25 * 4 = 534", "534 + 51 * 2 = 636", "Answer: 636"]
    assert sums.work_out(LEGS).splitlines() == legs
    # Backwards from the first, and forwards from the second.
    backwards = ["31 * 14 = 434", "434 + 51 * 2 = 536", "536 + 25 * 4 = 636", "Answer: 636"]
    assert sums.work_out(LEGS, 2).splitlines() == backwards
    assert sums.work_out(CHAIN, 3).startswith("607 + 361 = 968\n968 - 879 = 89\n")


@pytest.mark.parametrize("task", sums.TASKS)
def test_every_line_of_every_route_adds_up_and_the_answer_is_reasoning_gyms(task: str) -> None:
    source = SumsSource(3, tasks=[task])
    scorer = reasoning_gym.create_dataset(task, size=1, **sums.TASKS[task])
    for entry in sums.held_out_problems(task, 5):
        problem = sums.problem_of(entry)
        for thought_id in range(1, 17):
            *lines, last = sums.work_out(problem, thought_id).splitlines()
            for line in lines:
                worked, noted = line.rsplit(" = ", 1)
                assert re.fullmatch(r"[-+* \d]+", worked)
                assert eval(worked) == int(noted)
            assert scorer.score_answer(sums.parse_answer(last), entry) == 1.0
    example = source.example(5, 16)
    assert sorted(path.thought_id or 0 for path in example.paths) == list(range(1, 17))
    assert len({path.text for path in example.paths}) >= 8


def test_an_example_is_the_same_on_every_run_and_has_a_summary_if_asked_for() -> None:
    first, again = SumsSource(1, summary=True), SumsSource(1, summary=True)
    examples: list[Example] = [first.example(i, 2) for i in range(20)]
    assert examples == [again.example(i, 2) for i in range(20)]
    assert {"legs" in example.question for example in examples} == {True, False}
    for example in examples:
        assert {path.text.rsplit("\n", 1)[1] for path in example.paths} == {example.summary}
    assert SumsSource(1).example(0, 1).summary is None


def test_held_out_problems_come_once_and_are_not_drawn_in_training() -> None:
    held_out = {entry["question"] for entry in sums.held_out_problems("leg_counting", 100)}
    assert len(held_out) == 100
    source = SumsSource(0, tasks=["leg_counting"])
    assert not held_out & {source.example(i, 1).question for i in range(300)}


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="no task 'addition'; there are: chain_sum, leg_counting"):
        SumsSource(0, tasks=["addition"])
    with pytest.raises(UsageError, match="9 paths, but thought ids for 8 only"):
        SumsSource(0, max_paths=8).example(0, 9)
