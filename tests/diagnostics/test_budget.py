"""The budget sweep: what it makes of chains whose scores are known."""

from __future__ import annotations

import pytest

from parathinker.diagnostics.budget import (
    FORCED,
    NATURAL,
    Chain,
    forcing,
    growth,
    powers_of_two,
    run,
    table,
)
from parathinker.errors import UsageError
from parathinker.evaluation.settings import EvalSettings


def chains(kind: str, budget: int, scores: list[float]) -> list[Chain]:
    """A chain for each question."""
    return [
        Chain(f"q{i}", kind, budget, score, budget - i, closed=score == 1)
        for i, score in enumerate(scores)
    ]


def test_rows_have_the_accuracy_and_the_paired_gain_over_the_budget_before() -> None:
    found = table(chains(NATURAL, 32, [1, 1, 0, 1]) + chains(NATURAL, 16, [1, 0, 0, 0]))
    small, large = found
    assert (small.budget, large.budget) == (16, 32)
    assert (small.accuracy.mean, large.accuracy.mean) == (0.25, 0.75)
    assert small.gain is None
    assert large.gain is not None
    assert large.gain.difference == 0.5
    # Differences 0, 1, 0, 1: their standard deviation is sqrt(1/3), over sqrt(4) questions.
    assert large.gain.error == pytest.approx((1 / 3) ** 0.5 / 2)
    assert large.tokens == 30.5
    assert large.closed == 0.75


def test_growth_stops_at_the_first_budget_that_no_larger_one_beats_by_two_errors() -> None:
    early = [0.0] * 10
    half = [1.0] * 5 + [0.0] * 5
    # One question more: 0.1 ± 0.1, which may be chance.
    more = [1.0] * 6 + [0.0] * 4
    sweep = chains(NATURAL, 8, early) + chains(NATURAL, 16, half) + chains(NATURAL, 32, more)
    assert growth(sweep)[0].stops_at == 16


def test_what_no_next_step_shows_a_larger_step_may() -> None:
    """Steps of one question each are within their errors, but not their sum."""
    scores = [[1.0] * right + [0.0] * (10 - right) for right in (2, 3, 4, 5, 6, 7)]
    sweep = [chain for i, s in enumerate(scores) for chain in chains(NATURAL, 2 ** (3 + i), s)]
    # From 2 to 7: 0.5 ± 0.167; from 3 to 7: 0.4 ± 0.163; from 4 to 7: 0.3 ± 0.153.
    assert growth(sweep)[0].stops_at == 32


def test_what_grows_to_the_end_stops_nowhere() -> None:
    sweep = chains(FORCED, 8, [0.0] * 4) + chains(FORCED, 16, [1.0] * 4)
    assert growth(sweep)[0].stops_at is None


def test_one_question_tells_nothing_about_growth() -> None:
    sweep = chains(NATURAL, 8, [1.0]) + chains(NATURAL, 16, [1.0])
    assert growth(sweep)[0].stops_at is None


def test_forced_and_natural_chains_are_compared_at_the_largest_budget() -> None:
    sweep = [
        *chains(NATURAL, 8, [0, 0]),
        *chains(NATURAL, 16, [1, 1]),
        *chains(FORCED, 8, [1, 1]),
        *chains(FORCED, 16, [1, 0]),
    ]
    assert forcing(sweep).difference == -0.5


def test_budgets_are_the_largest_powers_of_two_and_the_largest_itself() -> None:
    assert powers_of_two(256) == [8, 16, 32, 64, 128, 256]
    assert powers_of_two(100) == [8, 16, 32, 64, 100]
    assert powers_of_two(16_384) == [128, 256, 512, 1024, 2048, 4096, 8192, 16_384]


@pytest.mark.parametrize(
    ("largest", "budgets", "message"),
    [
        (256, [2, 64], "a budget of 2 is too small for a chain"),
        (256, [64, 512], "a budget of 512 is more than --budget, 256"),
        (8, None, "at least two budgets"),
    ],
)
def test_budgets_that_cannot_be_are_refused(
    tmp_path: object, largest: int, budgets: list[int] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(EvalSettings(budget=largest), tmp_path, budgets)  # type: ignore[arg-type]
