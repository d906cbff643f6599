"""The gate lets models through that have learnt their task, and stops the chain otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "gate.py"


def gate(least: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "nines", "--least", str(least)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_model_that_is_right_often_enough_passes() -> None:
    passed = gate(20)
    assert passed.returncode == 0, passed.stderr
    assert "nines: a greedy path is right on" in passed.stdout
    assert passed.stdout.endswith("of 50 problems\n")


def test_a_model_that_is_not_is_stopped_and_told_what_to_try() -> None:
    stopped = gate(51)
    assert stopped.returncode == 1
    assert "fewer than 51: another seed may learn it sooner, or more steps" in stopped.stderr
