"""Several processes train what one would: the same losses, the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import Losses, example_files, raw_recipe, recipe

from parathinker.errors import UsageError
from parathinker.prompt import PromptCodec
from parathinker.training import distributed
from parathinker.training.batches import Batches
from parathinker.training.run import train

SCRIPT = """
import json, os, sys
from pathlib import Path
import accelerate.state as state
import torch
torch.set_num_threads(1)

# accelerate offers FSDP on accelerators only; FSDP itself runs on CPUs as well. So it is told that
# these processes sit on GPUs, and computes on the device that it has, the CPU.
begin = state.PartialState.__init__
def on_anything(self, *arguments, **options):
    begin(self, *arguments, **options)
    if self._shared_state.get("distributed_type") == state.DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = state.DistributedType.MULTI_GPU
if "ACCELERATE_USE_FSDP" in os.environ:
    state.PartialState.__init__ = on_anything

from small_runs import Losses
from parathinker.training.recipe_yaml import read_recipe
from parathinker.training.run import train

main = os.environ.get("RANK", "0") == "0"
losses = Losses(stop_after=int(sys.argv[4]) if main else None)
done = train(read_recipe(Path(sys.argv[1])), Path(sys.argv[2]), (losses,))
if main:
    Path(sys.argv[3]).write_text(json.dumps([done, losses.logs]))
"""
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
Logs = dict[int, dict[str, float]]


def launch(folder: Path, processes: int, fsdp: bool = False, stop_after: int = 0) -> Logs:
    """Train in so many processes; the log entries of all steps."""
    script, log = folder / "script.py", folder / f"log-{processes}.json"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    run = folder / f"run-{processes}"
    command = [sys.executable, *torchrun, script, folder / "recipe.yaml", run, log, stop_after]
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment, **(FSDP if fsdp else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    finished, logs = json.loads(log.read_text())
    assert finished is (stop_after == 0)
    return {int(step): entry for step, entry in logs.items()}


def write_recipe(folder: Path, model: dict[str, Any] | None, **top: Any) -> None:
    stage: dict[str, Any] = {
        "data": {"source": "examples", "files": example_files(folder, count=40)},
        "batch_tokens": 150,
        # Batches differ in their labelled tokens, so averaging means would not do.
        "batches_per_step": 4,
        "summary_weight": 3.0,
        "activation_checkpointing": model is not None,
    }
    raw = raw_recipe(6, model, top, **stage)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw), "utf-8")


def assert_alike(one: Logs, two: Logs, a: Path, b: Path) -> None:
    """Losses and weights, up to the order in which numbers were added."""
    for step, log in two.items():
        for figure in ("loss", "loss_paths", "loss_summary", "grad_norm"):
            assert log[figure] == pytest.approx(one[step][figure], rel=2e-4), (step, figure)
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    for tensor in first:
        torch.testing.assert_close(first[tensor], second[tensor], atol=2e-4, rtol=1e-3, msg=tensor)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all weights", "lora"])
def test_two_processes_train_what_one_does(
    tmp_path: Path, kind: str, tiny_random_model: Path
) -> None:
    model, name = None, "model.safetensors"
    if kind == "lora":
        model = {"base": str(tiny_random_model), "max_paths": 8, "lora": {"rank": 4}}
        name = "adapter_model.safetensors"
    write_recipe(tmp_path, model)
    one = launch(tmp_path, 1)
    # Stopped and started again on the way.
    before = launch(tmp_path, 2, stop_after=3)
    after = launch(tmp_path, 2)
    assert (max(before), min(after)) == (4, 5)
    two = before | after
    assert one.keys() == two.keys() == set(range(1, 7))
    assert_alike(one, two, *(tmp_path / f"run-{n}" / "model" / name for n in (1, 2)))


@pytest.mark.slow
def test_a_sharded_run_that_was_stopped_ends_where_one_process_does(tmp_path: Path) -> None:
    write_recipe(tmp_path, None, sharding="full")
    one = launch(tmp_path, 1)
    before = launch(tmp_path, 2, fsdp=True, stop_after=3)
    assert list((tmp_path / "run-2" / "one").glob("checkpoint-4/pytorch_model_fsdp_0/*.distcp"))
    after = launch(tmp_path, 2, fsdp=True)
    assert (max(before), min(after)) == (4, 5)
    files = (tmp_path / f"run-{n}" / "model" / "model.safetensors" for n in (1, 2))
    assert_alike(one, before | after, *files)


def test_batches_that_cannot_be_shared_evenly_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="3 batches_per_step, which 2 processes cannot share"):
        train(recipe(1, batches_per_step=3), tmp_path)
    with pytest.raises(UsageError, match="accelerate launch"):
        train(recipe(1, top={"sharding": "full"}, batches_per_step=2), tmp_path)


def test_the_loss_is_divided_by_the_labelled_tokens_of_the_whole_step(tmp_path: Path) -> None:
    data = {"source": "examples", "files": example_files(tmp_path, count=20)}
    small = recipe(1, data=data, batch_tokens=60, batches_per_step=8)
    losses = Losses()
    assert train(small, tmp_path / "run", (losses,))
    codec = PromptCodec.from_folder(tmp_path / "run" / "model")
    batches = Batches(small.stages[0], codec, seed=0)
    paths = summaries = 0
    for i in range(8):
        batch = batches[i]
        labelled = batch["shift_labels"] != -100
        paths += int((labelled & (batch["thought_ids"] > 0)).sum())
        summaries += int((labelled & (batch["thought_ids"] == 0)).sum())
    log = losses.logs[1]
    total = log["loss_paths"] * paths + log["loss_summary"] * summaries
    assert log["loss"] == pytest.approx(total / (paths + summaries), rel=1e-4)


def test_one_process_is_the_main_one() -> None:
    assert distributed.world_size() == 1
    assert distributed.is_main()
    assert not distributed.is_sharded()
    assert distributed.any_of(True, "cpu")
