"""A dry run says what a recipe takes, from the config alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import example_files, raw_recipe, recipe

from parathinker.errors import CheckpointError, UsageError
from parathinker.training.model import build_model
from parathinker.training.plan import Hardware, plan
from parathinker.training.recipe_yaml import parse_recipe, read_recipe
from parathinker.training.run import train

RECIPES = Path(__file__).parents[2] / "recipes"
Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("name", "billions"), [("r1-qwen-1.5b.yaml", 1.777), ("r1-qwen-7b.yaml", 7.616)]
)
def test_the_recipes_for_eight_gpus_fit_them(name: str, billions: float) -> None:
    made = plan(read_recipe(RECIPES / name), Hardware())
    assert made.parameters.total / 1e9 == pytest.approx(billions, abs=0.001)
    assert made.parameters.trained == made.parameters.total
    (stage,) = made.stages
    assert made.fits
    assert stage.checkpointing
    assert stage.whole_logits > 40e9
    assert not stage.data.found
    assert stage.data.steps == -(-6200 * 3 // 64)
    assert 1 < stage.hours < 1000


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_counted_parameters_are_those_that_training_has(
    tiny_random_model: Path, lora: dict[str, Any] | None
) -> None:
    model = {"base": str(tiny_random_model), "max_paths": 12, "lora": lora}
    small = recipe(2, model)
    built, _ = build_model(small.model, 0)
    made = plan(small, Hardware(gpus=1))
    assert made.parameters.total == sum(p.numel() for p in built.parameters())
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert made.parameters.trained == trained


def test_steps_and_tokens_are_those_of_the_data(tmp_path: Path) -> None:
    data = {"source": "examples", "files": example_files(tmp_path, count=25)}
    small = recipe(None, data=data, epochs=2, batch_tokens=300, batches_per_step=2)
    made = plan(small, Hardware(gpus=2))
    (stage,) = made.stages
    assert stage.data.found
    assert stage.data.examples == 25
    train(small, tmp_path / "run")
    lengths = json.loads((tmp_path / "run" / "one" / "lengths.json").read_text())["lengths"]
    assert stage.data.tokens == sum(lengths)
    assert 0.3 < stage.data.fill <= 1


def test_nothing_is_allocated_for_a_large_base() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan(read_recipe(RECIPES / "r1-qwen-7b.yaml"), Hardware())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


def test_what_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    base = {"base": str(tmp_path / "nowhere")}
    with pytest.raises(CheckpointError, match=r"write what its config\.json says"):
        plan(recipe(1, base), Hardware())
    raw = raw_recipe(None, epochs=1, data={"source": "examples", "files": ["none.jsonl"]})
    with pytest.raises(UsageError, match="expected_examples"):
        plan(parse_recipe(raw), Hardware())
    raw = raw_recipe(3, top={"sharding": "full"}, batches_per_step=3)
    with pytest.raises(UsageError, match="8 GPUs cannot share evenly"):
        plan(parse_recipe(raw), Hardware())
