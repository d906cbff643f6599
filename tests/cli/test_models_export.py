"""``parathinker models export``: a folder for everyone, checked against what it was made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from parathinker import ParaThinker, ThinkingParams
from parathinker.errors import CheckpointError
from parathinker.evaluation.settings import EvalSettings
from parathinker.modeling import export as export_module
from parathinker.modeling.export import export_model

Run = Callable[..., tuple[int, str, str]]


def test_an_export_opens_everywhere_and_computes_the_same(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "made"
    code, output, _ = run("models", "export", letters_model, "--output", target, "--json")
    assert code == 0
    report = json.loads(output)
    assert report["largest_difference"] == 0.0
    assert (report["dtype"], report["merged"]) == ("float32", False)
    before = load_file(letters_model / "model.safetensors")
    after = load_file(target / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert report["parameters"] == sum(tensor.numel() for tensor in after.values())

    params = ThinkingParams(paths=3, max_path_tokens=8, max_summary_tokens=8, seed=3, top_k=5)
    mine, theirs = (ParaThinker.from_pretrained(f) for f in (letters_model, target))
    assert mine.think("Hello", params).text == theirs.think("Hello", params).text
    stock = AutoModelForCausalLM.from_pretrained(target)
    ids = AutoTokenizer.from_pretrained(target)("Hello", return_tensors="pt").input_ids
    assert stock(ids).logits.isfinite().all()
    assert (target / "examples.jsonl").is_file()
    assert [p.name for p in target.parent.iterdir()] == ["made"]


def test_an_export_in_bfloat16_says_what_rounding_cost(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "half"
    code, output, _ = run(
        "models", "export", letters_model, "--output", target, "--dtype", "bfloat16"
    )
    assert code == 0
    assert "the largest difference of any logit is" in output
    weights = load_file(target / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_export_replaces_nothing(run: Run, letters_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "diary.txt").write_text("dear")
    code, _, errors = run("models", "export", letters_model, "--output", target)
    assert code == 2
    assert "not empty" in errors
    assert [p.name for p in target.iterdir()] == ["diary.txt"]
    for other in (letters_model, letters_model.parent):
        assert run("models", "export", letters_model, "--output", other)[0] == 2
    assert run("models", "export", letters_model, "--output", target, "--force")[0] == 2
    assert [p.name for p in target.iterdir()] == ["diary.txt"], "not even by force: no model"


def test_an_export_is_made_again_by_force(run: Run, letters_model: Path, tmp_path: Path) -> None:
    command = "models", "export", letters_model, "--output", tmp_path / "made"
    assert run(*command)[0] == 0
    (tmp_path / "made" / "old.txt").write_text("of the one before")
    code, _, errors = run(*command)
    assert code == 2
    assert "--force" in errors
    assert run(*command, "--force")[0] == 0
    assert not (tmp_path / "made" / "old.txt").exists()
    assert (tmp_path / "made" / "model.safetensors").is_file()


def test_the_card_has_the_measurements_and_the_recipe(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(letters_model, tmp_path / "source")
    recipe = {
        "name": "mine",
        "model": {"base": str(tmp_path / "somewhere" / "base-model"), "lora": None},
        "stages": [
            {"name": "one", "data": {"source": "examples", "files": ["/data/set/train.parquet"]}}
        ],
    }
    (source / "training.json").write_text(json.dumps({"recipe": recipe}))
    measured = tmp_path / "measured.json"
    rows = [
        {
            "benchmark": "products",
            "method": "parallel",
            "width": 8,
            "accuracy": {"mean": 0.9925, "error": 0.005, "questions": 300},
            "path_tokens": 1096.0,
            "summary_tokens": 15.0,
        }
    ]
    settings = EvalSettings(budget=256, temperature=1.0).to_dict()
    measured.write_text(json.dumps({"settings": settings, "rows": rows, "paired": []}))
    target = tmp_path / "made"
    assert run("models", "export", source, "--output", target, "--evaluation", measured)[0] == 0
    card = (target / "README.md").read_text("utf-8")
    assert "| products | parallel | 8 | 300 | 99.2 ± 0.5 | 1,111 |" in card
    assert "budget 256, summary tokens 512, samples 1, temperature 1.0" in card
    assert "name: mine" in card
    assert "`train.parquet`" in card
    assert str(tmp_path) not in card
    assert "/data/set" not in card
    front = yaml.safe_load(card.split("---")[1])
    assert "parallel-thinking" in front["tags"]
    assert "The licence of the base, base-model, was not found" in card


def test_the_bases_licence_is_carried_over(run: Run, letters_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(letters_model, base)
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    (base / "LICENSE").write_text("You may.")
    source = shutil.copytree(letters_model, tmp_path / "source")
    recipe = {"name": "mine", "model": {"base": str(base)}, "stages": []}
    (source / "training.json").write_text(json.dumps({"recipe": recipe}))
    target = tmp_path / "made"
    assert run("models", "export", source, "--output", target)[0] == 0
    assert (target / "LICENSE").read_text() == "You may."
    card = (target / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "mit, that of the base, base." in card


def test_a_base_without_a_card_has_the_licence_that_the_recipe_says(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(letters_model, tmp_path / "base")
    (base / "README.md").unlink(missing_ok=True)
    source = shutil.copytree(letters_model, tmp_path / "source")
    model = {"base": str(base), "base_licence": "apache-2.0"}
    recipe = {"name": "mine", "model": model, "stages": []}
    (source / "training.json").write_text(json.dumps({"recipe": recipe}))
    target = tmp_path / "made"
    assert run("models", "export", source, "--output", target)[0] == 0
    card = (target / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"


def test_a_difference_is_noticed_and_leaves_nothing_behind(
    letters_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: here the written weights are spoilt on their way."""
    write = export_module.write_model

    def spoil(folder: Path, *rest: object) -> None:
        write(folder, *rest)  # type: ignore[arg-type]
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.self_attn.seg_embeddings.weight"] *= 0.5
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(export_module, "write_model", spoil)
    with pytest.raises(CheckpointError, match="computes something else"):
        export_model(letters_model, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "message"),
    [("nothing", "no such folder"), ("plain", "no thought embeddings"), ("run", "not all done")],
)
def test_what_cannot_be_exported_is_named(
    run: Run, letters_model: Path, tmp_path: Path, what: str, message: str
) -> None:
    source = tmp_path / "source"
    if what == "plain":
        shutil.copytree(letters_model, source)
        weights = load_file(source / "model.safetensors")
        kept = {n: w for n, w in weights.items() if "seg_embeddings" not in n}
        save_file(kept, source / "model.safetensors", metadata={"format": "pt"})
    elif what == "run":
        (source / "one").mkdir(parents=True)
        (source / "one" / "recipe.json").write_text("{}")
    code, _, errors = run("models", "export", source, "--output", tmp_path / "made")
    assert code == 1
    assert message in errors
    assert not (tmp_path / "made").exists()


def test_options_that_make_no_sense_are_refused(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "made"
    assert run("models", "export", letters_model, "--output", target, "--dtype", "int4")[0] == 2
    missing = tmp_path / "none.json"
    command = "models", "export", letters_model, "--output", target, "--evaluation", missing
    assert run(*command)[0] == 2
