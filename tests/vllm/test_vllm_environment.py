"""What vLLM's processes inherit; vLLM itself is not needed for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from parathinker import ParaThinker, UsageError
from parathinker.backends.vllm.environment import RUNNER, prepare_environment

CTRL_C = """
import multiprocessing, os, signal, sys, time
from parathinker.backends.vllm.environment import interrupts_kept_from_children

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.2,))
    with interrupts_kept_from_children():
        child.start()
    signal.signal(signal.SIGINT, lambda number, frame: print("heard"))
    os.killpg(0, signal.SIGINT)
    child.join()
    sys.exit(child.exitcode)
"""


def test_a_terminals_ctrl_c_reaches_us_and_not_the_processes_we_start(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    ended = subprocess.run(
        [sys.executable, script], start_new_session=True, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "heard\n"


def test_vllms_first_model_runner_is_asked_for(monkeypatch):
    # The second takes no samplers, and is vLLM's choice on GPUs.
    monkeypatch.delenv(RUNNER, raising=False)
    prepare_environment()
    import os

    assert os.environ[RUNNER] == "0"


@pytest.mark.parametrize("value", ["1", "true", ""])
def test_an_environment_that_wants_the_second_model_runner_is_refused(monkeypatch, value):
    monkeypatch.setenv(RUNNER, value)
    with pytest.raises(UsageError, match=RUNNER):
        ParaThinker.from_pretrained("tiny", backend="vllm")
