"""``parathinker train``: what it plans and says; training itself is tested in tests/training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from parathinker.cli.plan import read_size
from parathinker.errors import UsageError

Run = Callable[..., tuple[int, str, str]]
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def small_recipe(tmp_path: Path) -> Path:
    raw: dict[str, Any] = {
        "name": "small",
        "model": {
            "init": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 512,
            },
            "tokenizer": "products",
            "max_paths": 4,
        },
        "stages": [{"name": "one", "data": {"source": "products"}, "steps": 2, "logging_steps": 1}],
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(raw), "utf-8")
    return file


def test_a_dry_run_prints_a_table(run: Run) -> None:
    code, output, _ = run("train", RECIPES / "r1-qwen-7b.yaml", "--dry-run", "--gpus", 8)
    assert code == 0
    # 7,615,616,512 of the base, and 28 tables of 32 by 128.
    for said in ("7,615,731,200 parameters", "optimiser", "together", "Fits", "291 steps"):
        assert said in output


def test_a_dry_run_of_a_small_model_speaks_of_megabytes_and_of_idle_gpus(
    run: Run, small_recipe: Path
) -> None:
    code, output, _ = run("train", small_recipe, "--dry-run", "--gpus", 4)
    assert code == 0
    assert "MB on each GPU" in output
    assert "batches_per_step lets 1 of the 4 GPUs work" in output
    assert "seconds if 40%" in output


def test_a_dry_run_prints_json_for_scripts(run: Run) -> None:
    arguments = "--dry-run", "--json", "--gpu-memory", "24GiB", "--flops", "1e15", "--mfu", "0.5"
    code, output, _ = run("train", RECIPES / "r1-qwen-7b.yaml", *arguments)
    assert code == 0
    made = json.loads(output)
    assert made["fits"] is False
    assert made["hardware"] == {"gpus": 8, "memory": 24 * 2**30, "flops": 1e15, "mfu": 0.5}
    (stage,) = made["stages"]
    parts = {k: v for k, v in stage["memory"].items() if k != "total"}
    assert stage["memory"]["total"] == pytest.approx(sum(parts.values()))


def test_a_dry_run_writes_nothing(
    run: Run, small_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_recipe.parent)
    assert run("train", small_recipe, "--dry-run")[0] == 0
    assert list(small_recipe.parent.iterdir()) == [small_recipe]


def test_json_is_for_plans_only(run: Run, small_recipe: Path) -> None:
    code, _, errors = run("train", small_recipe, "--json")
    assert code == 2
    assert "--dry-run" in errors


@pytest.mark.parametrize(
    ("text", "size"), [("80GB", 80e9), ("24 GiB", 24 * 2**30), ("16gb", 16e9), ("1000", 1000.0)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: float) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "0GB", "80 pounds"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="80GB"):
        read_size(text)


def test_progress_says_how_it_goes_and_where_the_model_is(
    run: Run, small_recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    code, _, errors = run("train", small_recipe, "--output", output, "--flops", "1e12")
    assert code == 0
    assert "one: step 2/2  loss" in errors
    assert "tokens/s" in errors
    assert "MFU" in errors
    assert f"Done: {output / 'model'}" in errors.replace("\n", "")
