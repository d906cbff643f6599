"""What ``import parathinker`` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import parathinker


def test_every_exported_name_is_there() -> None:
    for name in parathinker.__all__:
        assert getattr(parathinker, name) is not None


def test_pytorch_is_imported_only_when_the_engine_is_used() -> None:
    code = (
        "import sys, parathinker; parathinker.ThinkingParams(); assert 'torch' not in sys.modules; "
        "parathinker.ParaThinker; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
