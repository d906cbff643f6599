"""A run survives kills, damaged files, full disks and numbers that are none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import Losses, example_files, raw_recipe, recipe
from transformers import TrainerCallback

from parathinker.data.schema import read_examples
from parathinker.training.checkpoints import checkpoints
from parathinker.training.health import DivergedError
from parathinker.training.run import train

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch, yaml
torch.set_num_threads(1)
from transformers import TrainerCallback
from parathinker.training.recipe_yaml import read_recipe
from parathinker.training.run import train

kill_at, log = int(sys.argv[3]), Path(sys.argv[4])

class Watch(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            with log.open("a") as file:
                file.write(json.dumps([state.global_step, logs["loss"].hex()]) + "\\n")
        if state.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

train(read_recipe(Path(sys.argv[1])), Path(sys.argv[2]), (Watch(),))
"""


def command(folder: Path, kill_at: int, log: Path) -> list[str]:
    """Train in a process of its own that SIGKILLs itself at a step, where that is not 0."""
    arguments = SCRIPT, folder / "recipe.yaml", folder / "run", kill_at, log
    return [sys.executable, "-c", *map(str, arguments)]


def run_process(folder: Path, kill_at: int, log: Path) -> int:
    """Its return code."""
    done = subprocess.run(
        command(folder, kill_at, log), capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def kill_while_saving(folder: Path, log: Path, number: int) -> None:
    """SIGKILL from outside as soon as its ``number``-th checkpoint begins to be written."""
    process = subprocess.Popen(
        command(folder, 0, log), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    scratch = folder / "run" / "one" / ".saving"
    until = time.monotonic() + 200
    seen: set[str] = set()
    while len(seen) < number:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until
        with contextlib.suppress(FileNotFoundError):
            seen |= {p.name for p in scratch.iterdir()}
    process.kill()
    assert process.wait() == -signal.SIGKILL


def steps_and_losses(log: Path) -> dict[int, str]:
    """Losses to the last bit, by step; what a later process says of a step counts."""
    return dict(json.loads(line) for line in log.read_text().splitlines())


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    runs = {}
    for name, kills in (("whole", [0]), ("killed", [4, 8, 0])):
        folder = tmp_path / name
        folder.mkdir()
        files = example_files(tmp_path, count=30)
        raw = raw_recipe(
            None,
            epochs=2,
            batches_per_step=2,
            data={"source": "examples", "files": files},
            batch_tokens=150,
            save_steps=3,
        )
        (folder / "recipe.yaml").write_text(yaml.safe_dump(raw), "utf-8")
        logs = []
        for number, kill_at in enumerate(kills):
            log = folder / f"losses-{number}.jsonl"
            killed = run_process(folder, kill_at, log) == -signal.SIGKILL
            assert killed is bool(kill_at)
            logs.append(steps_and_losses(log))
        runs[name] = folder, logs
    (whole,) = runs["whole"][1]
    assert len(whole) > 9
    first, second, third = runs["killed"][1]
    # It went on from the checkpoints of steps 3 and 6, and did the lost steps again.
    assert (max(first), min(second), max(second), min(third)) == (4, 4, 8, 7)
    for part in (first, second, third):
        assert part == {step: whole[step] for step in part}
    a, b = (load_file(runs[n][0] / "run" / "model" / "model.safetensors") for n in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # five processes, which take a minute each where others compute
def test_kills_while_checkpoints_are_written_change_no_bit(tmp_path: Path) -> None:
    raw = raw_recipe(12, save_steps=1, logging_steps=1)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(yaml.safe_dump(raw), "utf-8")
    whole, log = (tmp_path / name / "losses.jsonl" for name in ("whole", "killed"))
    assert run_process(tmp_path / "whole", 0, whole) == 0
    for number in (2, 1, 3):
        kill_while_saving(tmp_path / "killed", log, number)
    assert run_process(tmp_path / "killed", 0, log) == 0
    assert steps_and_losses(log) == steps_and_losses(whole)
    a, b = (load_file(tmp_path / n / "run/model/model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_damaged_newest_checkpoint_costs_no_more_than_its_steps(tmp_path: Path) -> None:
    whole, after, said = Losses(), Losses(), []
    assert train(recipe(8), tmp_path / "whole", (whole,))
    assert not train(recipe(8), tmp_path / "run", (Losses(stop_after=6),))
    newest, older = checkpoints(tmp_path / "run" / "one")
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert train(recipe(8), tmp_path / "run", (after,), say=said.append)
    assert any(f"{newest} is damaged (model.safetensors has" in line for line in said)
    assert min(after.by_step) == int(older.name.rpartition("-")[2]) + 1
    assert after.by_step == {step: whole.by_step[step] for step in after.by_step}


class Poison(TrainerCallback):  # type: ignore[misc]
    """Makes the model compute NaN from a step on; in its weights, or only in a gradient."""

    def __init__(self, at: int, gradient: bool) -> None:
        self._at, self._gradient = at, gradient

    def on_step_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        if state.global_step + 1 != self._at:
            return
        weight = model.model.norm.weight
        if self._gradient:
            weight.register_hook(lambda grad: grad * float("inf"))
        else:
            with torch.no_grad():
                weight.fill_(float("nan"))


@pytest.mark.parametrize(("gradient", "what"), [(False, "loss"), (True, "gradient's norm")])
def test_what_is_no_number_stops_the_run_and_keeps_the_batch(
    tmp_path: Path, gradient: bool, what: str
) -> None:
    small = recipe(9, batches_per_step=2)
    with pytest.raises(DivergedError, match=rf"the {what} is (nan|inf) in step 5") as caught:
        train(small, tmp_path, (Poison(5, gradient),))
    batch = caught.value.batch
    assert batch == tmp_path / "one" / "bad-batches" / "step-5.jsonl"
    assert str(batch) in str(caught.value)
    examples = list(read_examples(batch))
    assert examples
    # Healthy again, it goes on from the checkpoint before.
    losses, whole = Losses(), Losses()
    assert train(small, tmp_path, (losses,))
    assert min(losses.by_step) == 4
    assert train(small, tmp_path / "whole", (whole,))
    assert losses.by_step == {step: whole.by_step[step] for step in losses.by_step}


def test_nothing_half_written_is_left_by_a_kill_while_saving(tmp_path: Path) -> None:
    assert not train(recipe(8), tmp_path, (Losses(stop_after=4),))
    half = tmp_path / "one" / ".saving" / "checkpoint-7"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"cut short")
    losses = Losses()
    assert train(recipe(8), tmp_path, (losses,))
    assert min(losses.by_step) in (5, 6)
    assert not half.exists()


def test_options_that_the_schedule_does_not_know_are_named_before_anything_is_made(
    tmp_path: Path,
) -> None:
    from parathinker.errors import UsageError

    stage = {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_options": {"colour": "red"}}
    began = time.perf_counter()
    with pytest.raises(UsageError, match="lr_scheduler_options do not fit cosine_with_min_lr"):
        train(recipe(2, **stage), tmp_path)
    assert time.perf_counter() - began < 20
    assert os.listdir(tmp_path) == []
