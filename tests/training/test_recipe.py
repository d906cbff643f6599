"""Recipes are checked whole before anything runs."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from parathinker.errors import UsageError
from parathinker.training.recipe import SCHEDULERS
from parathinker.training.recipe_yaml import parse_recipe, read_recipe

GOOD: dict[str, Any] = {
    "name": "x",
    "model": {"init": {"model_type": "llama"}, "tokenizer": "products"},
    "stages": [{"name": "one", "steps": 1, "data": {"source": "products"}}],
}


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda p: p.name)
def test_the_recipes_that_come_along_are_valid(file: Path) -> None:
    assert read_recipe(file).stages


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    raw = copy.deepcopy(GOOD)
    raw["stages"][0]["learning_rate"] = "1e-3"
    assert parse_recipe(raw).stages[0].learning_rate == 1e-3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["typo"], 1, "no key 'typo'"),
        (["model", "typo"], 1, "model has no key 'typo'"),
        (["stages", 0, "steps"], 0, "steps must be 1 or more"),
        (["stages", 0, "steps"], "many", "steps should be int"),
        (["stages", 0, "learning_rate"], -1, "learning_rate must be above 0"),
        (["stages", 0, "bf16"], "yes please", "bf16 should be bool"),
        (["stages", 0, "data", "source"], "web", "'web' is unknown"),
        (["stages", 0, "data", "source"], "jsonl", "needs 'files'"),
        (["stages", 0, "data", "source"], "examples", "needs 'files'"),
        (["stages", 0, "data", "max_tokens"], 0, "max_tokens must be 1 or more"),
        (["stages", 0, "epochs"], 1, "either 'steps' or 'epochs'"),
        (["stages", 0, "warmup_steps"], -5, "warmup_steps must be 0 or more, got -5"),
        (["stages", 0, "warmup_steps"], 2, r"warmup_steps \(2\) should not be more than"),
        (["stages", 0, "warmup_ratio"], -0.1, "warmup_ratio must be 0 or more and below 1"),
        (["stages", 0, "warmup_ratio"], 1.0, "warmup_ratio must be 0 or more and below 1"),
        (["stages", 0, "lr_scheduler"], "cosinus", "'cosinus' is unknown; known: constant, .*cos"),
        (["stages", 0, "weight_decay"], float("nan"), "weight_decay must be 0 or more"),
        (["stages", 0, "max_grad_norm"], -1, "max_grad_norm must be 0 or more"),
        (["stages", 0, "adam_beta2"], 1.0, "adam_beta2 must be 0 or more and below 1"),
        (["stages", 0, "batches_per_step"], 0, "batches_per_step must be 1 or more"),
        (["stages", 0, "learning_rate"], float("inf"), "learning_rate must be above 0"),
        (["stages", 0, "data", "options"], [1], "options should be mapping"),
        (["stages", 0, "data", "paths"], [0], "numbers from 1"),
        (["stages", 0, "data", "paths"], 3, "paths should be a list of int"),
        (["stages", 0, "data", "files"], "a.jsonl", "files should be a list of str"),
        (["stages"], [], "stages need one name each"),
        (["stages"], 3, "'stages' should be a list"),
        (["model"], None, "model should be a mapping"),
        (["model", "base"], "folder", "either 'base' or 'init'"),
        (["model", "thought_embedding_rows"], 8, "larger than max_paths"),
        (["model", "init"], {}, "needs a 'model_type'"),
        (["model", "dtype"], "float8", "dtype 'float8' is unknown; known: float32, bfloat16"),
        (["model", "dtype"], "bfloat16", "for frozen weights"),
        (["model", "max_paths"], 0, "max_paths must be 1 or more"),
        (["model", "lora"], {"rank": 4}, "adapts a 'base'"),
        (["model", "lora"], {"rank": 0}, "model.lora: rank must be 1 or more"),
        (["model", "lora"], {"ranks": 1}, "model.lora has no key 'ranks'"),
        (["model", "lora"], {"dropout": 1.0}, "dropout must be 0 or more and below 1"),
        (["model", "lora"], {"quantize": "int3"}, "quantize 'int3' is unknown; known: nf4"),
        (["report_to"], ["comet"], "'comet' is unknown; known: tensorboard, wandb"),
        (["sharding"], "some", "sharding 'some' is unknown; known: none, full"),
        (["samples"], {"questions": []}, "should list questions"),
        (["samples"], {"questions": ["?"], "every": 0}, "every must be 1 or more"),
        (["samples"], {"questions": ["?"], "paths": 99}, "should not be more than"),
    ],
)
def test_a_mistake_is_named(path: list[Any], value: Any, message: str) -> None:
    raw = copy.deepcopy(GOOD)
    at: Any = raw
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(UsageError, match=message):
        parse_recipe(raw)


def test_a_missing_key_is_named() -> None:
    raw = copy.deepcopy(GOOD)
    del raw["stages"][0]["name"]
    with pytest.raises(UsageError, match=r"stages\[0\] lacks 'name'"):
        parse_recipe(raw)
    raw = copy.deepcopy(GOOD)
    del raw["stages"][0]["steps"]
    with pytest.raises(UsageError, match="either 'steps' or 'epochs'"):
        parse_recipe(raw)
    raw["stages"][0]["epochs"] = 2
    with pytest.raises(UsageError, match="products never runs out"):
        parse_recipe(raw)


def test_a_schedule_without_warm_up_is_not_asked_for_one() -> None:
    raw = copy.deepcopy(GOOD)
    raw["stages"][0] |= {"lr_scheduler": "constant", "warmup_ratio": 0.1}
    with pytest.raises(UsageError, match="'constant_with_warmup' has"):
        parse_recipe(raw)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_that_is_offered_is_one_of_transformers(name: str) -> None:
    from transformers import SchedulerType

    assert name in {kind.value for kind in SchedulerType}


def test_jsonl_is_another_name_of_examples() -> None:
    raw = copy.deepcopy(GOOD)
    raw["stages"][0]["data"] = {"source": "jsonl", "files": ["a.jsonl"]}
    assert parse_recipe(raw).stages[0].data.source == "examples"


def test_a_recipe_survives_being_written_down() -> None:
    raw = copy.deepcopy(GOOD)
    raw["model"] = {"base": "folder", "lora": {"rank": 4, "target_modules": ["q_proj"]}}
    raw["samples"] = {"questions": ["1 + 1?"]}
    recipe = parse_recipe(raw)
    assert parse_recipe(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


ACCELERATE = sorted((Path(__file__).parents[2] / "recipes" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", ACCELERATE, ids=lambda p: p.name)
def test_accelerate_reads_the_configs_that_come_along(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert config.num_processes == 8
    other = getattr(config, "deepspeed_config", {}).get("deepspeed_config_file")
    if other is not None:
        zero = json.loads((file.parents[2] / other).read_text("utf-8"))
        assert zero["zero_optimization"]["stage"] == 3


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_recipe(tmp_path / "bad.yaml")


def test_values_can_be_set_without_a_copy_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(GOOD), "utf-8")
    changes = ("seed=7", "stages.one.steps=5", "stages.0.data.paths=[1, 2]", "model.max_paths=4")
    recipe = read_recipe(file, changes)
    assert (recipe.seed, recipe.stages[0].steps, recipe.model.max_paths) == (7, 5, 4)
    assert recipe.stages[0].data.paths == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "looks like model.base=FOLDER; got 'seed'"),
        ("sed=1", "no key 'sed'"),
        ("modle.base=x", "modle.base cannot be set, there is no 'modle'"),
        ("stages.two.steps=1", "there is no 'two'"),
        ("stages.1.steps=1", "there is no '1'"),
        ("seed=[", "'seed=.' is not valid YAML"),
        ("seed=x", "seed should be int"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(
    change: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(GOOD), "utf-8")
    with pytest.raises(UsageError, match=message):
        read_recipe(file, [change])
