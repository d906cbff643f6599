"""Reading model folders: what is accepted, and what each kind of damage is called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from parathinker import CheckpointError, ParaThinker, ThinkingParams, UsageError
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.thought_embedding import load_thought_embeddings
from reference import largest_difference, reference_logprobs, reference_model
from tiny_models import (
    EOS,
    build_model,
    byte_tokenizer,
    fast_tokenizer,
    save_random_model,
    save_released_model,
)

TABLE = "model.layers.{}.self_attn.seg_embeddings.weight"
PARAMS = ThinkingParams(paths=3, temperature=1.0, seed=0, max_path_tokens=8, max_summary_tokens=6)


@pytest.fixture
def folder(tiny_random_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny_random_model, tmp_path / "model"))


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        ParaThinker.from_pretrained(folder)
    return str(caught.value)


def names(model_type: str) -> list[str]:
    keys = set(build_model(model_type, tied=False).state_dict())
    return sorted(k for k in keys if "layers.0" not in k)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [(m, n) for m in ("llama", "qwen2", "qwen3", "mistral") for n in names(m)],
)
def test_a_missing_tensor_is_named(random_model, tmp_path, model_type, name):
    source = random_model(model_type, tied=False)
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    change_tensors(folder, lambda tensors: tensors.pop(name))
    assert f"lacks the tensor {name}" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.input_layernorm.weight",
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(folder, name):
    shape = []

    def cut(tensors: dict[str, Any]) -> None:
        shape.extend(tensors[name].shape)
        tensors[name] = tensors[name][:-1].clone()

    change_tensors(folder, cut)
    message = refusal(folder)
    for part in (name, str([shape[0] - 1, *shape[1:]]), str(shape)):
        assert part in message


def test_a_vocabulary_that_the_weights_do_not_have_is_named(folder):
    change_config(folder, vocab_size=5000)
    assert "model.embed_tokens.weight" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_a_truncated_file_is_named(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path} cannot be read; it is damaged or cut short" in refusal(folder)


def test_weights_that_are_not_floating_point_are_refused(folder):
    def quantise(tensors: dict[str, Any]) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] = tensors[name].to(torch.int8)

    change_tensors(folder, quantise)
    assert "quantised checkpoints are not supported" in refusal(folder)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma", None, 5])
def test_an_unsupported_architecture_is_named_with_those_that_are(folder, model_type):
    change_config(folder, model_type=model_type)
    message = refusal(folder)
    assert f"model_type {model_type!r} is not supported" in message
    assert "llama, mistral, qwen2, qwen3" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_size": "absent"}, "lacks 'hidden_size'"),
        ({"num_hidden_layers": "absent"}, "lacks 'num_hidden_layers'"),
        ({"hidden_size": "many"}, "invalid literal"),
        ({"max_position_embeddings": None}, "config.json"),
        ({"num_attention_heads": 0, "head_dim": None}, "config.json"),
        ({"rope_parameters": {"rope_type": "linear"}}, "'factor'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "'low_freq_factor'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'factor'"),
        ({"num_hidden_layers": 3}, "model.layers.2."),
        ({"num_attention_heads": 8}, "self_attn.q_proj.weight"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(folder, changes, said):
    change_config(folder, **changes)
    assert said in refusal(folder)


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    assert "is no model folder: it has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", b"\xff\xfe"])
def test_damaged_json_is_named(folder, file, content):
    path = folder / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert file in refusal(folder)


def test_a_pickle_is_not_read_and_the_message_says_so(folder):
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    message = refusal(folder)
    assert "pytorch_model.bin" in message
    assert "pickle" in message


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/at/all", "not a/hub id", ""])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(CheckpointError):
        ParaThinker.from_pretrained(name)


def test_an_unknown_device_and_dtype_are_refused(tiny_random_model):
    with pytest.raises(UsageError, match=r"device 'warp'.*auto, cpu"):
        ParaThinker.from_pretrained(tiny_random_model, device="warp")
    with pytest.raises(UsageError, match=r"dtype should be one of .*got 'int3'"):
        ParaThinker.from_pretrained(tiny_random_model, dtype="int3")


def test_a_sharded_checkpoint_answers_like_one_in_a_single_file(tiny_random_model, tmp_path):
    shutil.copytree(tiny_random_model, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    shards: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(sorted(tensors)):
        shards.setdefault(f"model-0000{k % 3}.safetensors", {})[name] = tensors[name]
    for file, part in shards.items():
        save_file(part, tmp_path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    answer = ParaThinker.from_pretrained(tmp_path).think("hi", PARAMS)
    whole = ParaThinker.from_pretrained(tiny_random_model).think("hi", PARAMS)
    assert answer.paths == whole.paths
    assert answer.summary == whole.summary

    (tmp_path / "model-00001.safetensors").unlink()
    assert "lacks model-00001.safetensors, which model.safetensors.index.json" in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": []}')
    assert "is not a valid index" in refusal(tmp_path)


@pytest.mark.parametrize("layer", [0, 1])
def test_thought_embeddings_in_only_some_layers_are_refused(folder, layer):
    change_tensors(folder, lambda tensors: tensors.pop(TABLE.format(layer)))
    assert TABLE.format(layer) in refusal(folder)
    model = build_model(vocab_size=278)
    with pytest.raises(CheckpointError, match="seg_embeddings"):
        load_thought_embeddings(model, folder)


@pytest.mark.parametrize("layer", [0, 1])
def test_thought_embeddings_of_different_sizes_are_refused(folder, layer):
    def shorten(tensors: dict[str, Any]) -> None:
        tensors[TABLE.format(layer)] = tensors[TABLE.format(layer)][:9].clone()

    change_tensors(folder, shorten)
    assert "seg_embeddings" in refusal(folder)
    with pytest.raises(CheckpointError, match="seg_embeddings"):
        load_thought_embeddings(build_model(vocab_size=278), folder)


@pytest.mark.parametrize("rows", [1, 8])
def test_thought_embeddings_with_too_few_rows_for_the_paths_are_refused(folder, rows):
    def shorten(tensors: dict[str, Any]) -> None:
        for layer in (0, 1):
            tensors[TABLE.format(layer)] = tensors[TABLE.format(layer)][:rows].clone()

    change_tensors(folder, shorten)
    assert f"have {rows} rows; 8 paths need 9" in refusal(folder)


def test_nine_rows_are_enough_for_eight_paths(folder):
    def shorten(tensors: dict[str, Any]) -> None:
        for layer in (0, 1):
            tensors[TABLE.format(layer)] = tensors[TABLE.format(layer)][:9].clone()

    change_tensors(folder, shorten)
    ParaThinker.from_pretrained(folder).think("hi", ThinkingParams(paths=8, max_path_tokens=2))


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path):
    folder = save_random_model(tmp_path)
    model = build_model(vocab_size=100)
    model.save_pretrained(folder)
    message = refusal(folder)
    assert "277" in message
    assert "resize" in message


def test_a_model_whose_tokenizer_lacks_control_tokens_is_refused_with_advice(tmp_path):
    build_model().save_pretrained(tmp_path)
    fast_tokenizer(byte_tokenizer(EOS)).save_pretrained(tmp_path)
    message = refusal(tmp_path)
    assert str(tmp_path) in message
    assert "parathinker models prepare" in message


@pytest.mark.parametrize("special", [True, False], ids=["special", "plain added tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_folder_in_the_released_format_loads_and_is_exact(tmp_path, special, dtype):
    base = save_released_model(tmp_path, special=special, dtype=dtype)
    model = ParaThinker.from_pretrained(tmp_path, dtype="float32")
    assert model.max_paths == 8
    assert model.config.max_context == 131072
    answer = model.think(
        "<think1>What?",
        ThinkingParams(
            paths=8, temperature=1.0, seed=0, max_path_tokens=12, termination="last-finish"
        ),
    )
    assert answer.paths[2].token_ids[0] == base + 4
    assert answer.summary.token_ids[0] == base + 16
    assert max(answer.prompt_token_ids) < base
    expected = reference_logprobs(reference_model(tmp_path), answer)
    assert largest_difference(answer, expected) <= 1e-4


def test_bfloat16_answers_are_near_the_float32_ones(tiny_random_model):
    params = ThinkingParams(paths=4, temperature=0, max_path_tokens=1, max_summary_tokens=1)
    [exact], [rough] = (
        ParaThinker.from_pretrained(tiny_random_model, dtype=dtype).summarize(
            ["What?"], [[[5, 6, 7], [8, 9], [10]]], params
        )
        for dtype in ("float32", "bfloat16")
    )
    assert rough.summary.logprobs[1] == pytest.approx(exact.summary.logprobs[1], abs=0.5)


def test_own_defaults_travel_in_the_configuration(folder):
    own = {"max_path_tokens": 5, "max_summary_tokens": 3, "temperature": 0.0, "task": "sums"}
    own["termination"] = "half-finish"
    change_config(folder, parathinker={**own, "summary_prefix": "So "})
    model = ParaThinker.from_pretrained(folder)
    assert model.task == "sums"
    answer = model.think("hi", ThinkingParams(paths=2))
    params = answer.params
    assert (params.max_path_tokens, params.max_summary_tokens) == (5, 3)
    assert params.temperature == params.summary_temperature == 0.0
    assert answer.summary.text.startswith("So ")
    assert model.think("hi", ThinkingParams(paths=2, max_path_tokens=7)).params.max_path_tokens == 7
    assert params.termination == "half-finish"
    chosen = ThinkingParams(paths=2, termination="last-finish")
    assert model.think("hi", chosen).params.termination == "last-finish"
    assert model.think("hi", ThinkingParams(paths="auto")).params.termination == "first-finish"


def test_a_checkpoint_says_when_thinking_ends(folder):
    change_config(folder, parathinker={"termination": "last-finish"})
    model = ParaThinker.from_pretrained(folder)
    params = ThinkingParams(
        paths=4, seed=0, temperature=1.0, max_path_tokens=64, stop_token_ids=tuple(range(3, 60))
    )
    lengths = {
        termination: [
            len(path.token_ids)
            for path in model.think("hi", replace(params, termination=termination)).paths
        ]
        for termination in (None, "last-finish", "first-finish")
    }
    assert lengths[None] == lengths["last-finish"] != lengths["first-finish"]


@pytest.mark.parametrize(
    "own", [{"temperature": "hot"}, {"max_path_tokens": "many"}, {"termination": "soon"}, ["list"]]
)
def test_own_defaults_that_make_no_sense_are_refused(folder, own):
    change_config(folder, parathinker=own)
    with pytest.raises((CheckpointError, UsageError)):
        ParaThinker.from_pretrained(folder).think("hi", ThinkingParams(paths=2))


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"max_position_embeddings": 512, "sliding_window": 100}, 512),
        ({"model_type": "mistral", "sliding_window": 100}, 100),
        ({"model_type": "mistral", "sliding_window": None}, 4096),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, 4096),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64}, 64),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 64}, 4096),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 2048,
                }
            },
            8192,
        ),
    ],
)
def test_the_context_is_what_positions_and_windows_allow(changes, context):
    config = {
        "model_type": "llama",
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
        **changes,
    }
    assert DecoderConfig.from_dict(config).max_context == context


def test_saved_folders_hold_the_tables_under_the_released_names(tiny_random_model):
    with safe_open(tiny_random_model / "model.safetensors", framework="pt") as tensors:
        for layer in (0, 1):
            assert tensors.get_slice(TABLE.format(layer)).get_shape() == [32, 16]
