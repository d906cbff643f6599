"""SmolLM2-135M-Instruct's real weights, made where the benchmarks have them made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "smollm2.py"
_spec = importlib.util.spec_from_file_location("benchmarks_smollm2", _FILE)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

smollm2_folder = _module.smollm2_folder
