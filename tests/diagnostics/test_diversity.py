"""Diversity: its measures against counting by hand, and its table."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.diagnostics.diversity import (
    Trial,
    distance,
    entropy,
    pass_at,
    spread,
    table,
)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_p_is_the_share_of_all_draws_with_a_right_path(
    right: list[bool], data: st.DataObject
) -> None:
    width = data.draw(st.integers(1, len(right)))
    draws = list(combinations(right, width))
    assert pass_at(len(right), sum(right), width) == pytest.approx(
        sum(any(draw) for draw in draws) / len(draws)
    )


def test_more_paths_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="3 of 2 paths"):
        pass_at(2, 1, 3)


def test_entropy_of_answers_in_bits() -> None:
    assert entropy([8]) == 0
    assert entropy([4, 4]) == 1
    assert entropy([2, 1, 1]) == 1.5
    assert entropy([1] * 8) == 3


def test_distance_is_the_share_of_four_grams_not_in_common() -> None:
    assert distance([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 0
    assert distance([1, 2, 3, 4, 5], [6, 7, 8, 9]) == 1
    # 1234 is in both; 2345 and 2346 are in one each.
    assert distance([1, 2, 3, 4, 5], [1, 2, 3, 4, 6]) == pytest.approx(2 / 3)
    assert distance([1, 2], [3, 4]) == 0  # too short to differ in any


TRIALS = [
    Trial("a", (True, False), (1, 1), 0.5, {1: 1.0, 2: 0.5}, {2: 1.0}),
    Trial("b", (False, False), (2,), 0.1, {1: 0.0, 2: 0.0}, {2: 0.0}),
]


def test_rows_have_pass_at_p_vote_summary_and_their_gaps() -> None:
    one, two = table(TRIALS)
    assert one.any_right.mean == 0.25  # question a: half of the draws
    assert two.any_right.mean == 0.5
    assert one.majority is not None
    assert one.majority.mean == 0.5
    assert one.parallel is None  # did not fit
    assert one.unused is None
    assert two.parallel is not None
    assert two.parallel_less_majority is not None
    assert two.unused is not None
    assert two.parallel.mean == 0.5
    assert two.parallel_less_majority.difference == 0.25
    assert two.unused.difference == 0


def test_what_was_left_unused_is_of_the_paths_that_were_read() -> None:
    # Of two paths the second is right. With one path there is nothing that anybody left unused,
    # though half of all draws of one are right; graded scores count as the method "best" has them.
    one, two = table(
        [Trial("a", (0.0, 1.0), (1, 1), 0.5, {1: 0.0, 2: 0.5}, {1: 0.0, 2: 0.0}),
         Trial("b", (0.5, 0.25), (1, 1), 0.5, {1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5})]
    )  # fmt: skip
    assert (one.any_right.mean, one.best.mean) == (0.25, 0.25)
    assert (two.any_right.mean, two.best.mean) == (0.5, 0.75)
    assert one.unused is not None
    assert two.unused is not None
    assert (one.unused.difference, one.unused.better, one.unused.worse) == (0, 0, 0)
    assert (two.unused.difference, two.unused.better) == (0.5, 1)


def test_replicates_of_a_question_are_more_paths_to_draw_from() -> None:
    again = [Trial("a", (True, True), (2,), 0.0), Trial("a", (False, False), (2,), 0.0)]
    # Of the 6 pairs of 4 paths only one has no right path.
    assert table(again)[1].any_right.mean == pytest.approx(5 / 6)


def test_spread_is_a_mean_over_questions() -> None:
    found = spread(TRIALS)
    assert found.distinct.mean == 0.75  # 2 of 2, 1 of 2
    assert found.entropy.mean == 0.5
    assert found.distance.mean == pytest.approx(0.3)
    assert found.answered.mean == 1


def test_paths_without_answers_have_no_diversity_of_answers() -> None:
    found = spread([Trial("c", (False, False), (), 0.5), *TRIALS])
    assert found.distinct.questions == 2
    assert found.answered.mean == pytest.approx(2 / 3)
    assert spread([Trial("a", (False, False), (), 0.5)]).distinct.questions == 0
