"""Ablations: the table of answers whose scores are known."""

from __future__ import annotations

import pytest

from parathinker.diagnostics.ablations import FLAT, FULL, Trial, table


def test_variants_are_paired_with_the_full_model_by_question() -> None:
    trials = [
        Trial(FLAT, "b", 0.0, 0.5, 30),
        Trial(FLAT, "a", 1.0, 0.5, 10),
        Trial(FULL, "a", 1.0, 0.5, 20),
        Trial(FULL, "b", 1.0, 1.0, 20),
    ]
    full, flat = table(trials)
    assert (full.variant, full.accuracy.mean, full.against_full) == (FULL, 1.0, None)
    assert full.paths.mean == 0.75
    assert (flat.variant, flat.accuracy.mean, flat.paths.mean) == (FLAT, 0.5, 0.5)
    assert flat.tokens == 20
    assert flat.against_full is not None
    assert flat.against_full.difference == -0.5
    assert flat.against_full.error == pytest.approx(0.5)  # differences 0 and −1
    assert (flat.against_full.better, flat.against_full.worse) == (0, 1)
