"""Checkpoints are whole or passed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parathinker.errors import CheckpointError
from parathinker.training.checkpoints import MANIFEST, checkpoints, damage, newest_good, publish


def save(folder: Path, step: int, keep: int = 3) -> Path:
    made = folder / ".saving" / f"checkpoint-{step}"
    (made / "shards").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes([step]) * 1000)
    (made / "shards" / "0.bin").write_bytes(b"abc")
    return publish(made, folder, keep)


def break_it(checkpoint: Path, how: str) -> None:
    weights = checkpoint / "model.safetensors"
    if how == "cut short":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif how == "other contents":
        weights.write_bytes(b"x" * 1000)
    elif how == "lost":
        (checkpoint / "shards" / "0.bin").unlink()
    elif how == "no manifest":
        (checkpoint / MANIFEST).unlink()
    else:
        (checkpoint / MANIFEST).write_text('{"model.safetensors": 3}')


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("cut short", "model.safetensors has 999 bytes instead of 1,000"),
        ("other contents", "model.safetensors has other contents"),
        ("lost", "it lacks shards/0.bin"),
        ("no manifest", "it has no manifest.json"),
        ("bad manifest", "manifest.json is no list of files"),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_over_and_said(
    tmp_path: Path, how: str, fault: str
) -> None:
    for step in (3, 9, 12):
        save(tmp_path, step)
    break_it(tmp_path / "checkpoint-12", how)
    said: list[str] = []
    assert newest_good(tmp_path, said.append) == tmp_path / "checkpoint-9"
    assert len(said) == 1
    assert fault in said[0]
    assert "going back to the one before" in said[0]


def test_newest_means_the_most_steps(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        save(tmp_path, step)
    assert newest_good(tmp_path, pytest.fail) == tmp_path / "checkpoint-100"
    assert damage(tmp_path / "checkpoint-100") is None


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    (tmp_path / ".saving" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_good(tmp_path, pytest.fail) is None


def test_damage_everywhere_is_an_error_rather_than_a_silent_new_beginning(tmp_path: Path) -> None:
    for step in (3, 6):
        break_it(save(tmp_path, step), "cut short")
    with pytest.raises(CheckpointError, match=r"checkpoint-6: .*checkpoint-3: .*begin"):
        newest_good(tmp_path, lambda _: None)


def test_only_the_newest_are_kept_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=2)
    assert [c.name for c in checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-2"]
    break_it(tmp_path / "checkpoint-3", "lost")
    save(tmp_path, 3, keep=2)
    assert damage(tmp_path / "checkpoint-3") is None
    shutil.rmtree(tmp_path / "checkpoint-2")
    assert newest_good(tmp_path, pytest.fail) == tmp_path / "checkpoint-3"
