"""Tunnel vision: what is made of attempts whose scores are known."""

from __future__ import annotations

import pytest

from parathinker.data.schema import Question
from parathinker.diagnostics.tunnel_vision import (
    PARALLEL,
    RIGHT,
    WRONG,
    Trial,
    _alike,
    _Sampled,
    _starts,
    remedy,
    said,
    table,
    trend,
)
from parathinker.evaluation.lab import Case


def trials(line: str, question: str, scores: dict[int, list[float]], path: int = 0) -> list[Trial]:
    """Attempts behind prefixes of so many tokens each."""
    return [
        Trial(line, question, path, prefix, score, 100)
        for prefix, some in scores.items()
        for score in some
    ]


def test_recovery_is_a_mean_over_questions_with_their_attempts_as_one() -> None:
    many = trials(WRONG, "a", {0: [1, 1, 1, 1]}) + trials(WRONG, "a", {0: [1, 1]}, path=1)
    rows = table([*many, *trials(WRONG, "b", {0: [0, 1]}), *trials(RIGHT, "b", {8: [1]})])
    wrong, right = rows
    assert (wrong.line, wrong.prefix, wrong.paths) == (WRONG, 0, 3)
    assert wrong.recovered.mean == 0.75  # 1 and 1/2, however many attempts each has
    assert wrong.recovered.error == pytest.approx(0.25)
    assert wrong.recovered.questions == 2
    assert (right.line, right.prefix) == (RIGHT, 8)


def test_the_trend_is_the_mean_slope_of_questions() -> None:
    falling = trials(WRONG, "a", {0: [1], 100: [0]})  # −1 for each 100 tokens
    level = trials(WRONG, "b", {0: [1, 0], 100: [0, 1], 200: [1, 0]})
    found = trend(falling + level, WRONG)
    assert found is not None
    assert found.difference == pytest.approx(-0.5)
    assert found.error == pytest.approx(0.5)
    assert (found.better, found.worse) == (0, 1)


def test_a_trend_that_many_questions_share_is_called_one() -> None:
    alike = [
        trial
        for i in range(8)
        for trial in trials(WRONG, f"q{i}", {0: [1, 1], 50: [1, 0], 100: [0, 0]})
    ]
    slope = trend(alike, WRONG)
    assert slope is not None
    assert slope.p_flipped == pytest.approx(2 / 2**8)
    assert "falls with the length" in said(WRONG, slope)


def test_a_trend_of_a_few_questions_is_not() -> None:
    slope = trend(trials(WRONG, "a", {0: [1], 100: [0]}), WRONG)
    assert slope is not None
    assert "no sure trend" in said(WRONG, slope)


def test_one_length_of_prefix_has_no_trend() -> None:
    assert trend(trials(WRONG, "a", {0: [1, 0]}), WRONG) is None


def test_parallel_thinking_is_compared_behind_flawed_prefixes_of_the_same_questions() -> None:
    both = [
        *trials(WRONG, "a", {0: [1], 50: [0], 100: [0]}),
        *trials(PARALLEL, "a", {0: [0], 50: [1], 100: [0]}),
        *trials(WRONG, "b", {50: [0]}),  # no parallel attempt
    ]
    found = remedy(both)
    assert found is not None
    assert found.difference == 0.5  # a prefix of no tokens has no flaw and does not count
    assert remedy(trials(WRONG, "a", {0: [1]})) is None


def sampled(question: str, right: str, seed: int = 0) -> list[_Sampled]:
    """A question's paths, a letter each: right, wrong, or unfinished."""
    case = Case(Question(question, question, "1"), question, len(right), 9, 2, seed)
    return [
        _Sampled(case, i, (1, 2), letter == "r", letter in "rw", i + 1)
        for i, letter in enumerate(right)
    ]


def controls(paths: list[_Sampled]) -> list[tuple[str, int]]:
    """Question and thought id of the right paths that are taken."""
    return [(one.case.question.id, one.thought_id) for one in _starts(paths) if one.right]


def test_controls_are_right_paths_of_the_same_question_and_where_there_are_of_the_same_id() -> None:
    again = sampled("a", "rwur") + sampled("a", "wrrr", seed=1)
    # Ids 2 and 1 are wrong once each, and right in the other sample.
    assert sorted(controls(again)) == [("a", 1), ("a", 2)]
    assert _alike(_starts(again)) == 2
    assert controls(sampled("a", "wwwr")) == [("a", 4)], "no more than there are"
    assert controls(sampled("a", "wwuu") + sampled("b", "rrrr")) == []


def test_of_each_question_as_many_wrong_paths_as_asked_for_are_drawn() -> None:
    paths = sampled("a", "wwwwrr") + sampled("b", "rw")
    drawn = [_starts(paths, 2, seed) for seed in range(9)]
    for starts in drawn:
        wrong = [one.case.question.id for one in starts if not one.right]
        assert wrong == ["a", "a", "b"]
        assert sum(one.right for one in starts) == 3, "as many controls"
    assert len({tuple(one.index for one in starts if not one.right) for starts in drawn}) > 1
    assert drawn[3] == _starts(paths, 2, 3)


def test_controls_have_the_ids_of_other_questions_wrong_paths_where_their_own_cannot() -> None:
    both = sampled("a", "rrrw") + sampled("b", "rrwr")
    # Of question a, id 3 is what b lacks a control for; of b, id 4 is what a lacks one for.
    assert controls(both) == [("a", 3), ("b", 4)]
    assert _alike(_starts(both)) == 2
