"""The parts of ``scripts/chain.py``; it shares the benchmarks' peers and weights."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
