"""Names of the benchmarks that come with the package, and nothing else: help texts are quick."""

from __future__ import annotations

from parathinker.benchmarks import BENCHMARKS

NAMES = (*BENCHMARKS, "products", "sums")
"""As :data:`parathinker.evaluation.benchmarks.DECLARED` has them."""
