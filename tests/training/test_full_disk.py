"""A full disk ends a run with a sentence and keeps the last good checkpoint."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import Losses, raw_recipe, recipe
from test_logging import SAMPLES
from transformers import TrainerCallback

from parathinker.errors import CheckpointError
from parathinker.training.checkpoints import checkpoints, damage
from parathinker.training.run import train


class SmallDisk(TrainerCallback):  # type: ignore[misc]
    """From a step on no file may become larger than 50 kB."""

    def __init__(self, at: int) -> None:
        self._at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._at:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))


@contextlib.contextmanager
def limits_put_back() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    lost = r"step 6 could not be saved.*checkpoint-3"
    with limits_put_back(), pytest.raises(CheckpointError, match=lost):
        train(recipe(9), tmp_path, (SmallDisk(6),))
    left = sorted(p.name for p in (tmp_path / "one").iterdir() if "checkpoint" in p.name)
    assert left == ["checkpoint-3"]
    assert not (tmp_path / "one" / ".saving").exists()
    losses = Losses()
    assert train(recipe(9), tmp_path, (losses,))
    assert min(losses.by_step) == 4


def test_a_disk_that_fills_up_at_the_very_end_loses_no_stage(tmp_path: Path) -> None:
    small = recipe(4, save_steps=2)
    with limits_put_back(), pytest.raises(CheckpointError, match="could not be saved"):
        train(small, tmp_path, (SmallDisk(3),))
    assert not (tmp_path / "one" / "done").exists()
    assert train(small, tmp_path)


def test_a_sample_that_has_no_room_is_left_out(tmp_path: Path) -> None:
    losses, said = Losses(), []
    small = recipe(5, top={"samples": SAMPLES}, save_steps=9)
    with limits_put_back(), pytest.raises(CheckpointError, match="step 5 could not be saved"):
        train(small, tmp_path, (SmallDisk(1), losses), say=said.append)
    assert set(losses.by_step) == {1, 2, 3, 4, 5}
    assert [line.split(":")[0] for line in said] == [
        "  no sample at step 2",
        "  no sample at step 4",
    ]
    assert not (tmp_path / "one" / ".sampled-model").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; making one takes rights that not every machine gives."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("filled", [0, 700_000, 1_400_000])
def test_a_disk_that_is_full_indeed_is_said_and_a_rerun_goes_on(
    small_disk: Path, tmp_path: Path, filled: int
) -> None:
    raw = raw_recipe(40, top={"samples": SAMPLES}, save_steps=2, keep_checkpoints=50)
    file, ballast = tmp_path / "recipe.yaml", small_disk / "ballast"
    file.write_text(yaml.safe_dump(raw), "utf-8")
    ballast.write_bytes(bytes(filled))
    output = small_disk / "run"
    command = [sys.executable, "-m", "parathinker", "train", str(file), "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "could not be saved" in ended.stderr
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert all(damage(found) is None for found in checkpoints(output / "one"))
    ballast.unlink()
    remount = ["mount", "-o", "remount,size=50m", str(small_disk)]
    subprocess.run(remount, check=True, capture_output=True)
    subprocess.run(command, capture_output=True, check=True)
