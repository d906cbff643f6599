"""LoRA trains the adapters, the thought embeddings and the control tokens' rows, nothing else."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import Losses, recipe

from parathinker import ParaThinker, ThinkingParams
from parathinker.errors import CheckpointError, MissingExtraError, UsageError
from parathinker.modeling.adapter import load_adapter, merged_weights
from parathinker.modeling.adapter_base import BASE_FILE, is_adapter
from parathinker.modeling.export import export_model
from parathinker.modeling.folders import adapter_folder
from parathinker.tokens import ControlTokens
from parathinker.training.model import build_model
from parathinker.training.recipe import LoraRecipe, ModelRecipe
from parathinker.training.run import train
from reference import largest_difference, reference_logprobs, reference_model
from tiny_models import CHAT_TEMPLATE, CHATML, EOS, byte_tokenizer, fast_tokenizer
from tiny_models import build_model as plain

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Stock models without control tokens, whose embeddings have to grow for them."""
    made: dict[tuple[str, bool, torch.dtype], Path] = {}

    def make(
        model_type: str = "llama", tied: bool = True, dtype: torch.dtype = torch.float32
    ) -> Path:
        key = model_type, tied, dtype
        if key not in made:
            folder = tmp_path_factory.mktemp("base") / "model"
            tokenizer = fast_tokenizer(byte_tokenizer(EOS, *CHATML), chat_template=CHAT_TEMPLATE)
            model = plain(model_type, tied=tied, vocab_size=len(tokenizer)).to(dtype)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


def lora_model(base: Path, **options: Any) -> dict[str, Any]:
    lora = {"rank": 4, "alpha": 8, "target_modules": TARGETS, **options.pop("lora", {})}
    return {"base": str(base), "max_paths": 4, "lora": lora, **options}


def merged(model: Any) -> dict[str, torch.Tensor]:
    return {n: w.clone() for n, w in merged_weights(model, model.state_dict()).items()}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_exactly_what_is_meant_to_change_changes(
    tmp_path: Path, bases: Callable[..., Path], model_type: str, tied: bool
) -> None:
    small = recipe(4, lora_model(bases(model_type, tied)), learning_rate=1e-2)
    before = merged(build_model(small.model, small.seed)[0])
    assert train(small, tmp_path)
    model, tokenizer = load_adapter(tmp_path / "model", dtype="float32")
    after = merged(model)
    assert before.keys() == after.keys()

    control = ControlTokens.find(tokenizer.get_vocab())
    rows = torch.tensor(sorted(control.ids))
    others = torch.tensor(sorted(set(range(len(tokenizer))) - control.ids))
    adapted = {f"{target}.weight" for target in TARGETS}
    for name, was in before.items():
        now = after[name]
        if "embed_tokens" in name or "lm_head" in name:
            assert torch.equal(was[others], now[others]), name
            # Rows of paths that were drawn, of the summary; that of padding teaches nothing.
            assert (was[rows] != now[rows]).any(dim=1).sum() >= 8, name
        elif "seg_embeddings" in name:
            assert not torch.equal(was[: control.max_paths + 1], now[: control.max_paths + 1])
        elif any(name.endswith(target) for target in adapted):
            assert not torch.equal(was, now), name
        else:
            assert torch.equal(was, now), name


def test_a_fresh_adapter_computes_what_the_base_does(bases: Callable[..., Path]) -> None:
    with_lora, _ = build_model(ModelRecipe(base=str(bases()), lora=LoraRecipe()), seed=0)
    without, _ = build_model(ModelRecipe(base=str(bases())), seed=0)
    mine, theirs = merged(with_lora), without.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_merging_is_what_peft_merges(tmp_path: Path, bases: Callable[..., Path]) -> None:
    train(recipe(2, lora_model(bases("qwen2", False)), learning_rate=1e-2), tmp_path)
    model, _ = load_adapter(tmp_path / "model", dtype="float32")
    mine = merged(model)
    theirs = model.merge_and_unload().state_dict()
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(mine[name], weight, atol=1e-6, rtol=1e-5, msg=name)


def test_checkpoints_hold_the_adapter_only(tmp_path: Path, bases: Callable[..., Path]) -> None:
    small = recipe(20, lora_model(bases()))
    assert not train(small, tmp_path, (Losses(stop_after=4),))
    (checkpoint,) = [c for c in (tmp_path / "one").glob("checkpoint-*") if c.name[-1] in "45"]
    names = {file.name for file in checkpoint.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    with safe_open(checkpoint / "adapter_model.safetensors", "pt") as file:
        kept = set(file.keys())
    kinds = ("lora_A", "lora_B", "seg_embeddings", "trainable_tokens_delta")
    assert all(any(kind in name for kind in kinds) for name in kept)
    base = sum(w.numel() for w in load_file(bases() / "model.safetensors").values())
    saved = sum(w.numel() for w in load_file(checkpoint / "adapter_model.safetensors").values())
    assert saved < base / 2
    # And it is an adapter that can be used as it is.
    assert export_model(checkpoint, tmp_path / "made").merged


def test_a_lora_run_resumes_exactly(tmp_path: Path, bases: Callable[..., Path]) -> None:
    # Dropout draws from the random state, so that it has to come back too.
    small = recipe(8, lora_model(bases(), lora={"dropout": 0.2}))
    whole, first, second = Losses(), Losses(stop_after=4), Losses()
    assert train(small, tmp_path / "whole", (whole,))
    assert not train(small, tmp_path / "broken", (first,))
    assert train(small, tmp_path / "broken", (second,))
    assert {**first.by_step, **second.by_step} == whole.by_step
    a, b = (
        load_file(tmp_path / run / "model" / "adapter_model.safetensors")
        for run in ("whole", "broken")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_second_stage_trains_the_same_adapter_further(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    small = recipe(2, lora_model(bases()))
    from small_runs import raw_recipe

    from parathinker.training.recipe_yaml import parse_recipe

    raw = raw_recipe(2, lora_model(bases()))
    raw["stages"] = [raw["stages"][0], {**raw["stages"][0], "name": "two", "learning_rate": 1e-9}]
    assert train(parse_recipe(raw), tmp_path)
    one = load_file(tmp_path / "one" / "model" / "adapter_model.safetensors")
    two = load_file(tmp_path / "two" / "model" / "adapter_model.safetensors")
    fresh = dict(build_model(small.model, small.seed)[0].state_dict())
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], atol=1e-6, rtol=0, msg=name)
    trained = "base_model.model.model.layers.0.self_attn.q_proj.lora_B"
    assert not torch.equal(one[f"{trained}.weight"], fresh[f"{trained}.default.weight"])


def test_another_run_goes_on_with_an_adapter(tmp_path: Path, bases: Callable[..., Path]) -> None:
    assert train(recipe(2, lora_model(bases())), tmp_path / "first")
    folder = tmp_path / "first" / "model"
    model = lora_model(bases(), lora={"adapter": str(folder)})
    assert train(recipe(1, model, learning_rate=1e-9), tmp_path / "second")
    one, two = (
        load_file(tmp_path / run / "model" / "adapter_model.safetensors")
        for run in ("first", "second")
    )
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], atol=1e-6, rtol=0, msg=name)
    # As a run does that was stopped between two stages: nothing was built in this process before.
    code = f"""
from pathlib import Path
from parathinker.training.model import continue_model
from parathinker.training.recipe import LoraRecipe, ModelRecipe
continue_model(Path({str(folder)!r}), ModelRecipe(base={model["base"]!r}, lora=LoraRecipe()))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(UsageError, match=r"adapter .* is no folder with an adapter"):
        build_model(recipe(1, lora_model(bases(), lora={"adapter": str(tmp_path)})).model, 0)


def test_an_embedded_adapter_goes_by_its_name(tmp_path: Path) -> None:
    assert is_adapter(adapter_folder("smollm2-sums"))
    assert adapter_folder(str(tmp_path)) == tmp_path


def test_a_bfloat16_base_stays_bfloat16_and_what_is_trained_is_float32(
    bases: Callable[..., Path],
) -> None:
    model, _ = build_model(
        ModelRecipe(base=str(bases()), dtype="bfloat16", lora=LoraRecipe()), seed=0
    )
    kinds = {p.requires_grad: set() for p in model.parameters()}
    for parameter in model.parameters():
        kinds[parameter.requires_grad].add(parameter.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_exported_adapter_is_what_was_trained_here_and_in_transformers(
    tmp_path: Path, bases: Callable[..., Path], tied: bool
) -> None:
    base = bases("qwen2", tied)
    small = recipe(3, lora_model(base, thought_embedding_std=0.2), learning_rate=1e-2)
    assert train(small, tmp_path / "run")
    report = export_model(tmp_path / "run", tmp_path / "made")
    assert report.merged
    assert report.largest_difference < 1e-4 * report.largest_logit
    params = ThinkingParams(
        paths=4, max_path_tokens=9, max_summary_tokens=9, seed=0, termination="last-finish"
    )
    answer = ParaThinker.from_pretrained(tmp_path / "made").think("1 + 1?", params)
    adapted, _ = load_adapter(tmp_path / "run" / "model", attn_implementation="eager")
    exported = reference_model(tmp_path / "made")
    for model in (adapted.eval().get_base_model(), exported):
        expected = reference_logprobs(model, answer)
        assert largest_difference(answer, expected) < 1e-4
    # What was trained matters: without it, the same tokens get other probabilities.
    untrained = build_model(small.model, small.seed)[0].eval().get_base_model()
    untrained.set_attn_implementation("eager")
    assert largest_difference(answer, reference_logprobs(untrained, answer)) > 1e-2


def test_an_adapter_is_merged_once_when_it_is_asked_for_as_a_model(
    tmp_path: Path, bases: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARATHINKER_CACHE", str(tmp_path / "cache"))
    assert train(recipe(1, lora_model(bases()), learning_rate=1e-2), tmp_path / "run")
    adapter = tmp_path / "run" / "model"
    params = ThinkingParams(paths=2, max_path_tokens=5, max_summary_tokens=3, seed=0)
    answer = ParaThinker.from_pretrained(adapter).think("1 + 1?", params)
    (kept,) = (tmp_path / "cache").iterdir()
    made = kept.stat().st_mtime_ns
    assert ParaThinker.from_pretrained(adapter).think("1 + 1?", params).paths == answer.paths
    assert [kept] == list((tmp_path / "cache").iterdir())
    assert kept.stat().st_mtime_ns == made
    # An adapter that was trained further is another one.
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 2 * w for name, w in weights.items()}, adapter / "adapter_model.safetensors")
    assert ParaThinker.from_pretrained(adapter).think("1 + 1?", params).paths != answer.paths


def test_an_export_in_stock_transformers_writes_with_a_cache(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    assert train(recipe(1, lora_model(bases())), tmp_path / "run")
    export_model(tmp_path / "run", tmp_path / "made")
    assert json.loads((tmp_path / "made" / "config.json").read_text())["use_cache"] is True


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"
)
def test_four_bits_say_what_they_need(bases: Callable[..., Path]) -> None:
    with pytest.raises(MissingExtraError, match=r"parathinker\[qlora\]"):
        build_model(ModelRecipe(base=str(bases()), lora=LoraRecipe(quantize="nf4")), seed=0)


def test_layers_that_the_base_does_not_have_are_named(bases: Callable[..., Path]) -> None:
    lora = LoraRecipe(target_modules=("q_proj", "c_attn"))
    with pytest.raises(UsageError, match="this model has no layer c_attn"):
        build_model(ModelRecipe(base=str(bases()), lora=lora), seed=0)


def test_an_adapter_that_cannot_be_used_says_why(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    base = shutil.copytree(bases(), tmp_path / "base")
    assert train(recipe(1, lora_model(base)), tmp_path / "run")
    adapter = tmp_path / "run" / "model"
    assert is_adapter(adapter)
    facts = json.loads((adapter / BASE_FILE).read_text("utf-8"))
    assert facts["base"] == str(base)
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match="unknown model"):
        load_adapter(adapter)
    (adapter / BASE_FILE).write_text('{"base": "x", "colour": "red"}')
    with pytest.raises(CheckpointError, match="colour"):
        load_adapter(adapter)
    (adapter / BASE_FILE).unlink()
    with pytest.raises(CheckpointError, match="was not made by parathinker train"):
        load_adapter(adapter)


def test_merging_leaves_the_model_as_it_is(bases: Callable[..., Path]) -> None:
    model, _ = build_model(ModelRecipe(base=str(bases()), lora=LoraRecipe()), seed=0)
    before = copy.deepcopy(model.state_dict())
    for name, weight in merged_weights(model, model.state_dict()).items():
        if "proj" in name:
            weight.zero_()
    after = model.state_dict()
    # What was merged is new; what was not is the model's own, so the base's weights are looked at.
    names = [n for n in before if "base_layer.weight" in n and "proj" in n]
    assert names
    assert all(torch.equal(before[n], after[n]) for n in names)
