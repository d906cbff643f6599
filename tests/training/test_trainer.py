"""Training resumes exactly, stops cleanly, and leaves a folder that everyone opens."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import INIT, Losses, raw_recipe, recipe
from transformers import AutoModelForCausalLM

from parathinker import ParaThinker, ThinkingParams
from parathinker.errors import CheckpointError, UsageError
from parathinker.training.model import build_model
from parathinker.training.recipe import ModelRecipe
from parathinker.training.run import StopOnSignal, train


def test_a_run_that_was_stopped_goes_on_with_the_losses_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    whole = Losses()
    assert train(recipe(), tmp_path / "whole", (whole,))
    first, second = Losses(stop_after=4), Losses()
    assert not train(recipe(), tmp_path / "broken", (first,))
    assert train(recipe(), tmp_path / "broken", (second,))
    assert min(second.by_step) in (5, 6)
    assert max(second.by_step) == 8
    for step, loss in {**first.by_step, **second.by_step}.items():
        assert loss == whole.by_step[step], step
    assert len(set(whole.by_step.values())) == 8
    states = [
        torch.cat([p.flatten() for p in AutoModelForCausalLM.from_pretrained(f).parameters()])
        for f in (tmp_path / "whole" / "model", tmp_path / "broken" / "model")
    ]
    assert torch.equal(*states)


def test_a_checkpoint_of_a_run_under_way_is_a_model_too(tmp_path: Path) -> None:
    assert not train(recipe(), tmp_path, (Losses(stop_after=4),))
    newest = max((tmp_path / "one").glob("checkpoint-*"), key=lambda c: c.stat().st_mtime)
    params = ThinkingParams(paths=2, max_path_tokens=5, max_summary_tokens=5, seed=0)
    assert len(ParaThinker.from_pretrained(newest).think("1 * 1", params).paths) == 2
    stock = AutoModelForCausalLM.from_pretrained(newest)
    assert stock(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    again = Losses()
    assert train(recipe(steps=2), tmp_path)
    assert train(recipe(steps=2), tmp_path, (again,))
    assert not again.by_step


def test_another_recipe_may_not_go_on_with_a_run(tmp_path: Path) -> None:
    train(recipe(steps=1), tmp_path)
    with pytest.raises(UsageError, match="different recipe"):
        train(recipe(steps=2), tmp_path)


def test_what_decides_no_weight_may_change_on_the_way(tmp_path: Path) -> None:
    whole, first, second = Losses(), Losses(stop_after=4), Losses()
    assert train(recipe(), tmp_path / "whole", (whole,))
    assert not train(recipe(), tmp_path / "run", (first,))
    other = recipe(save_steps=1, keep_checkpoints=1, activation_checkpointing=True)
    assert train(other, tmp_path / "run", (second,))
    for step, loss in {**first.by_step, **second.by_step}.items():
        assert loss == pytest.approx(whole.by_step[step], rel=1e-6)


def test_attention_may_be_chosen_where_it_can_train(tmp_path: Path) -> None:
    losses = [Losses(), Losses()]
    for name, watch in zip(("auto", "structured"), losses, strict=True):
        model = {**INIT, "attention": name}
        assert train(recipe(2, model), tmp_path / name, (watch,))
    assert losses[0].by_step == losses[1].by_step
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="flex trains on CUDA only"):
            train(recipe(2, {**INIT, "attention": "flex"}), tmp_path / "flex")


def test_the_loss_falls_on_fixed_examples(tmp_path: Path) -> None:
    losses = Losses()
    data = {"source": "products", "paths": [2], "fixed_examples": 2}
    train(recipe(steps=60, data=data, save_steps=100, learning_rate=1e-2), tmp_path, (losses,))
    assert losses.by_step[60] < 0.7 * losses.by_step[1]


def test_the_model_opens_here_and_in_stock_transformers(tmp_path: Path) -> None:
    train(recipe(steps=2), tmp_path)
    folder = tmp_path / "model"
    model = ParaThinker.from_pretrained(folder)
    assert model.max_paths == 4
    assert model.task == "products"
    params = ThinkingParams(paths=4, max_path_tokens=5, max_summary_tokens=5, seed=0)
    assert len(model.think("1 * 1", params).paths) == 4
    stock = AutoModelForCausalLM.from_pretrained(folder)
    assert stock.config._attn_implementation == "sdpa"
    assert stock(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_examples_from_a_file_train_as_well(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    lines = [{"question": f"q{i}?", "paths": ["a", "bc"], "summary": "d"} for i in range(5)]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    data = {"source": "jsonl", "files": [str(file)], "paths": [2]}
    assert train(recipe(steps=2, data=data), tmp_path / "out")
    with pytest.raises(UsageError, match="only hold examples with"):
        train(recipe(steps=2, data={**data, "paths": [3]}), tmp_path / "other")
    file.write_text('{"question": "", "paths": ["a"]}', "utf-8")
    with pytest.raises(UsageError, match=r"data.jsonl:1: 'question'"):
        train(recipe(steps=2, data=data), tmp_path / "third")
    file.write_bytes(b'{"question": "\xff"}')
    with pytest.raises(UsageError, match=r"data.jsonl:1: not valid JSON"):
        train(recipe(steps=2, data=data), tmp_path / "fourth")


def test_a_batch_that_teaches_nothing_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"question": "q?", "paths": [{"text": "a", "learn": false}]}', "utf-8")
    losses = Losses()
    data = {"source": "jsonl", "files": [str(file)], "paths": [1]}
    assert train(recipe(steps=2, data=data), tmp_path / "out", (losses,))
    assert set(losses.by_step.values()) == {0.0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_a_checkpoint_before_the_command_exits(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe(steps=10_000)), "utf-8")
    command = ["train", str(file), "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "parathinker", *command], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "loss" in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, [*seen, errors]
    assert "goes on from there" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "run" / "one").glob("checkpoint-*/trainer_state.json"))


def test_options_that_a_source_does_not_know_are_named(tmp_path: Path) -> None:
    data = {"source": "products", "options": {"colour": "red"}}
    with pytest.raises(UsageError, match="colour"):
        train(recipe(steps=1, data=data), tmp_path)


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json"),
        ({"model_type": "gpt2"}, "'gpt2' is not supported"),
    ],
)
def test_a_base_that_cannot_be_trained_is_named(
    tmp_path: Path, config: dict[str, Any] | None, message: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        build_model(ModelRecipe(base=str(tmp_path)), seed=0)


def test_a_pickled_base_is_not_read(tmp_path: Path, random_model: Callable[..., Path]) -> None:
    folder = tmp_path / "base"
    shutil.copytree(random_model("llama"), folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        build_model(ModelRecipe(base=str(folder)), seed=0)
