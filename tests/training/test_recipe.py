"""Recipes are checked whole before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from parathinker.errors import UsageError
from parathinker.training.recipe import parse_recipe, read_recipe

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
        (["stages", 0, "data", "paths"], [0], "numbers from 1"),
        (["stages", 0, "data", "paths"], 3, "paths should be a list of int"),
        (["stages", 0, "data", "files"], "a.jsonl", "files should be a list of str"),
        (["stages"], [], "stages need one name each"),
        (["stages"], 3, "'stages' should be a list"),
        (["model"], None, "model should be a mapping"),
        (["model", "base"], "folder", "either 'base' or 'init'"),
        (["model", "thought_embedding_rows"], 8, "larger than max_paths"),
        (["model", "init"], {}, "needs a 'model_type'"),
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
    del raw["stages"][0]["steps"]
    with pytest.raises(UsageError, match=r"stages\[0\] lacks 'steps'"):
        parse_recipe(raw)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_recipe(tmp_path / "bad.yaml")
