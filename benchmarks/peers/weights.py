"""SmolLM2-135M-Instruct's weights as every contestant wants them, from one source.

One folder with thought embeddings for ParaThinker, one without for transformers and vLLM, and one
F32 GGUF file for llama.cpp; the weights that they share are the same numbers.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from smollm2 import smollm2_folder

MAX_PATHS = 16
_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Weights:
    """Where the three forms lie."""

    thinking: Path
    plain: Path
    gguf: Path


def prepare_weights(cache: Path) -> Weights:
    """Make what is not there yet: once, a download of 93 MB and two minutes."""
    thinking = smollm2_folder(MAX_PATHS, cache=cache)
    weights = Weights(thinking, cache / "smollm2-135m-plain", cache / "smollm2-135m-f32.gguf")
    if not weights.plain.is_dir():
        _write_plain(thinking, weights.plain)
    if not weights.gguf.is_file():
        _write_gguf(weights.plain, weights.gguf)
    return weights


def _write_plain(source: Path, folder: Path) -> None:
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((scratch / "config.json").read_text("utf-8"))
    config.pop("parathinker", None)
    (scratch / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    tensors = load_file(source / "model.safetensors")
    plain = {name: array for name, array in tensors.items() if "seg_embeddings" not in name}
    save_file(plain, scratch / "model.safetensors", metadata={"format": "pt"})
    scratch.rename(folder)


def _write_gguf(folder: Path, file: Path) -> None:
    """llama.cpp's own converter, reduced to this one model, without a tokenizer."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    scratch = file.with_suffix(".partial")
    writer = gguf.GGUFWriter(scratch, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    tensors = load_file(folder / "model.safetensors")
    writer.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", tensors["model.norm.weight"])
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in _LAYER_TENSORS.items():
            tensor = tensors[f"model.layers.{layer}.{theirs}.weight"]
            writer.add_tensor(f"blk.{layer}.{ours}.weight", _rope_order(tensor, ours, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    scratch.rename(file)


def _rope_order(tensor: np.ndarray, name: str, config: dict[str, Any]) -> np.ndarray:
    """GGUF's llama rotates neighbouring rows of a head, transformers its two halves."""
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    if name not in heads:
        return tensor
    halves = tensor.reshape(config[heads[name]], 2, -1, tensor.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)
