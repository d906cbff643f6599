"""Means with their errors, and whether one method is better than another."""

# Shapes: Q questions, R replicates.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parathinker.errors import MissingExtraError

RESAMPLES = 9_999
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over questions."""

    mean: float
    error: float
    """Standard error; NaN for a single question."""
    questions: int


@dataclass(frozen=True)
class Comparison:
    """One method less another, on the same questions."""

    difference: float
    """Of the mean scores."""
    error: float
    """Standard error of the difference, paired by question."""
    low: float
    high: float
    """95 % confidence interval, by a bootstrap over questions (BCa)."""
    p_flipped: float
    """Two-sided, by flipping the signs of the questions' differences at random."""
    p_mcnemar: float | None
    """Exact two-sided test on discordant questions; None unless each has one answer of 0 or 1."""
    better: int
    worse: int
    """Questions on which the one scores above or below the other."""


def estimate(scores_QR: Sequence[Sequence[float]]) -> Estimate:
    """The mean score: of each question over its replicates, then over questions.

    Answers to one question are alike, so they count as one observation: the standard error is the
    standard deviation of the questions' means over √Q.
    """
    means_Q = _means(scores_QR)
    error = float(means_Q.std(ddof=1) / np.sqrt(len(means_Q))) if len(means_Q) > 1 else float("nan")
    return Estimate(float(means_Q.mean()), error, len(means_Q))


def compare(
    one_QR: Sequence[Sequence[float]], other_QR: Sequence[Sequence[float]], seed: int = 0
) -> Comparison:
    """Whether the one differs from the other; questions in the same order.

    Raises:
        MissingExtraError: SciPy is not installed.
        ValueError: another number of questions.
    """
    try:
        from scipy import stats
    except ImportError as missing:
        raise MissingExtraError("comparing methods", "eval") from missing
    one_Q, other_Q = _means(one_QR), _means(other_QR)
    if len(one_Q) != len(other_Q):
        raise ValueError(f"{len(one_Q)} questions cannot be paired with {len(other_Q)}")
    differences_Q = one_Q - other_Q
    better, worse = int((differences_Q > 0).sum()), int((differences_Q < 0).sum())
    mean = float(differences_Q.mean())
    error = float("nan")
    low, high, p_flipped = mean, mean, 1.0
    if len(differences_Q) > 1:
        error = float(differences_Q.std(ddof=1) / np.sqrt(len(differences_Q)))
    # A bootstrap of questions that are all alike has nothing to draw.
    if better + worse and np.ptp(differences_Q) > 0:
        generator = np.random.default_rng(seed)
        interval = stats.bootstrap(
            (differences_Q,), np.mean, n_resamples=RESAMPLES, rng=generator
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    # A single difference, its sign flipped, is as far from zero as before: p is 1.
    if better + worse > 1:
        # Equal scores have no sign to flip; without them it is the same test, and much faster.
        differ_Q = differences_Q != 0
        p_flipped = float(
            stats.permutation_test(
                (one_Q[differ_Q], other_Q[differ_Q]),
                lambda a, b, axis=-1: np.mean(a - b, axis=axis),
                permutation_type="samples",
                n_resamples=RESAMPLES,
                vectorized=True,
                rng=np.random.default_rng(seed),
            ).pvalue
        )
    return Comparison(
        mean, error, low, high, p_flipped, _mcnemar(one_QR, other_QR, better, worse), better, worse
    )


def _mcnemar(
    one_QR: Sequence[Sequence[float]],
    other_QR: Sequence[Sequence[float]],
    better: int,
    worse: int,
) -> float | None:
    from scipy import stats

    single = all(len(scores) == 1 and scores[0] in (0.0, 1.0) for scores in (*one_QR, *other_QR))
    if not single:
        return None
    if better + worse == 0:
        return 1.0
    return float(stats.binomtest(better, better + worse).pvalue)


def _means(scores_QR: Sequence[Sequence[float]]) -> Scores:
    return np.array([np.mean(scores) for scores in scores_QR], np.float64)
