"""The statistics against simulations whose truth is known, and against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parathinker.evaluation import statistics
from parathinker.evaluation.statistics import compare, estimate

Q, R = 60, 3


def clustered(rng: np.random.Generator, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong answers of two methods: questions differ a lot, answers to one are alike."""
    hard_Q = rng.beta(0.6, 0.6, Q)
    other_Q = np.clip(hard_Q + lift, 0, 1)
    one_QR = rng.random((Q, R)) < other_Q[:, None]
    return one_QR.astype(float), (rng.random((Q, R)) < hard_Q[:, None]).astype(float)


def test_the_mean_is_over_questions_and_its_error_too() -> None:
    found = estimate([[1, 1], [1, 0], [0, 0], [0, 1]])
    assert (found.mean, found.questions) == (0.5, 4)
    assert found.error == pytest.approx(math.sqrt((0.25 + 0 + 0.25 + 0) / 3 / 4))
    assert math.isnan(estimate([[1.0, 0.0]]).error)


def test_the_standard_error_covers_the_truth_as_often_as_it_should() -> None:
    rng = np.random.default_rng(1)
    # A beta distribution with equal parameters has mean 0.5.
    found = [estimate(clustered(rng)[0].tolist()) for _ in range(2_000)]
    within = np.mean([abs(one.mean - 0.5) <= 1.96 * one.error for one in found])
    assert 0.93 <= within <= 0.965
    # Counted as Q × R answers of their own, they would seem surer than they are.
    naive = [math.sqrt(one.mean * (1 - one.mean) / (Q * R)) for one in found]
    pairs = zip(found, naive, strict=True)
    assert np.mean([abs(one.mean - 0.5) <= 1.96 * error for one, error in pairs]) < 0.88


def test_the_paired_error_covers_the_true_difference_as_often_as_it_should(
    fewer_resamples: None,
) -> None:
    rng = np.random.default_rng(4)
    # A lift that stops at 1 adds less: of a beta distribution with parameters a and a, numerically.
    drawn = rng.beta(0.6, 0.6, 1_000_000)
    truth = float(np.mean(np.clip(drawn + 0.1, 0, 1) - drawn))
    runs = [compare(*(x.tolist() for x in clustered(rng, 0.1))) for _ in range(400)]
    within = np.mean([abs(one.difference - truth) <= 1.96 * one.error for one in runs])
    assert 0.92 <= within <= 0.975
    # Questions differ much more than methods on a question, so pairing makes the error smaller.
    alone = [estimate(clustered(rng)[0].tolist()).error for _ in range(100)]
    assert np.mean([one.error for one in runs]) < 0.8 * np.sqrt(2) * np.mean(alone)


def test_mcnemar_finds_no_difference_where_there_is_none_more_often_than_it_says(
    fewer_resamples: None,
) -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(400):
        one, other = (answers[:, :1].tolist() for answers in clustered(rng))
        p_values.append(compare(one, other).p_mcnemar)
    for level in (0.05, 0.2, 0.5):
        slack = 3 * math.sqrt(level * (1 - level) / len(p_values))
        below = np.mean([p <= level for p in p_values])
        # Exact tests of few questions are on the safe side; not so much that they find nothing.
        assert level / 4 < below < level + slack


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 399)


@pytest.mark.parametrize("graded", [True, False], ids=["graded", "right or wrong"])
def test_intervals_hold_the_true_difference_and_p_values_are_uniform_without_one(
    fewer_resamples: None, graded: bool
) -> None:
    rng = np.random.default_rng(2)
    runs = []
    for seed in range(300):
        one_QR, other_QR = clustered(rng)
        if graded:
            one_QR, other_QR = one_QR * rng.random((Q, R)), other_QR * rng.random((Q, R))
        runs.append(compare(one_QR.tolist(), other_QR.tolist(), seed))
    covered = np.mean([one.low <= 0 <= one.high for one in runs])
    assert 0.91 <= covered <= 0.98
    p_values = np.array([one.p_flipped for one in runs])
    for level in (0.05, 0.2, 0.5, 0.8):
        slack = 3 * math.sqrt(level * (1 - level) / len(runs)) + 0.01
        below = (p_values <= level).mean()
        assert below < level + slack, level
        # Where many differences are as large as what was found, p-values are on the safe side.
        assert below > level - slack - (0 if graded else 0.1), level


def test_a_true_difference_is_found(fewer_resamples: None) -> None:
    rng = np.random.default_rng(3)
    one, other = clustered(rng, lift=0.3)
    found = compare(one.tolist(), other.tolist())
    assert found.low > 0
    assert found.p_flipped < 0.05
    swapped = compare(other.tolist(), one.tolist())
    assert swapped.difference == -found.difference
    assert (swapped.better, swapped.worse) == (found.worse, found.better)
    assert found.p_mcnemar is None, "several answers to a question"


def test_mcnemar_is_the_binomial_test_of_the_questions_that_differ() -> None:
    one = [[1.0]] * 9 + [[0.0]] * 1 + [[1.0]] * 20
    other = [[0.0]] * 9 + [[1.0]] * 1 + [[1.0]] * 20
    found = compare(one, other)
    # Two-sided: 2 × (C(10, 0) + C(10, 1)) / 2^10.
    assert found.p_mcnemar == pytest.approx(22 / 1024)
    assert (found.better, found.worse) == (9, 1)
    assert found.difference == pytest.approx(8 / 30)


def test_flipping_signs_is_exact_where_there_are_few_questions() -> None:
    # Of 2^3 ways to flip three differences of one, two are as extreme as all alike.
    found = compare([[1.0]] * 3, [[0.0]] * 3)
    assert found.p_flipped == pytest.approx(2 / 8)
    assert (found.low, found.high) == (1.0, 1.0)


@pytest.mark.parametrize("scores", [[[1.0]], [[1.0], [1.0]], [[0.5], [1.0], [0.0]]])
def test_methods_that_answer_alike_do_not_differ(scores: list[list[float]]) -> None:
    found = compare(scores, scores)
    assert (found.difference, found.p_flipped, found.better, found.worse) == (0.0, 1.0, 0, 0)


@pytest.mark.parametrize("right", [0, 1, 2, 7])
def test_an_interval_is_never_without_ends(right: int) -> None:
    one = [[1.0]] * right + [[0.0]] * (8 - right)
    found = compare(one, [[0.0]] * 8)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low <= found.difference <= found.high


def test_only_the_same_questions_can_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        compare([[1.0]], [[1.0], [0.0]])
