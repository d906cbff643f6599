"""What is kept of a segment that a model wrote."""

from __future__ import annotations

import math

import pytest

from parathinker import Path, Summary
from parathinker.evaluation.generations import Written


def test_a_tokens_confidence_is_minus_the_mean_log_probability_of_the_likeliest() -> None:
    likeliest = [
        [],  # the opening token, which nobody chose
        [(7, math.log(0.5)), (8, math.log(0.25))],
        [(7, math.log(0.125)), (8, math.log(0.125)), (9, math.log(0.125))],
        [],  # a closing token that was forced
    ]
    path = Path(3, "ab", [90, 7, 8, 91], [None, math.log(0.5), math.log(0.125), None], "length",
                likeliest)  # fmt: skip
    written = Written.of(path)
    # ln 2 and ln 4, of which the mean is 1.5 ln 2; then ln 8 three times.
    assert written.confidences == pytest.approx((1.5 * math.log(2), 3 * math.log(2)), abs=1e-4)
    assert written.log_likelihood == pytest.approx(-4 * math.log(2), abs=2e-4)
    assert (written.thought_id, written.tokens, written.finish_reason) == (3, 4, "length")
    assert Written.from_dict(written.to_dict()) == written


def test_a_summary_has_no_thought_id() -> None:
    assert Written.of(Summary("a", [1, 2], [None, -1.0], "stop")).thought_id == 0
