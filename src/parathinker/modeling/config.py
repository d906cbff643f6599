"""What the decoder needs to know of a checkpoint, read from its ``config.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError

SUPPORTED_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
SUPPORTED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
SUPPORTED_ACTIVATIONS = ("silu",)
THOUGHT_EMBEDDING_MODULE = "seg_embeddings"
"""The released checkpoints' name for a layer's thought embedding, a child of its attention."""
THOUGHT_EMBEDDING_ROWS = 32
"""Rows of a thought embedding, as released: thought ids from 0 to 31."""
_ROPE_NEEDS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and variants of a decoder-only transformer with RoPE and SwiGLU."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_context: int
    """Largest position + 1 that the model may be asked to read."""
    tie_word_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    """Parameters of the RoPE variant; empty for plain RoPE."""
    parathinker: dict[str, Any] = field(default_factory=dict)
    """This product's own section: defaults for thinking, the task it was trained on."""

    @classmethod
    def from_folder(cls, folder: Path) -> DecoderConfig:
        """Read and check ``config.json``.

        Raises:
            CheckpointError: it is missing, unreadable, or of an unsupported kind.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise CheckpointError(f"{folder} is no model folder: it has no config.json")
        return cls.from_dict(read_json_object(path), str(path))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str = "config.json") -> DecoderConfig:
        """The same from a parsed ``config.json``."""
        model_type = raw.get("model_type")
        if model_type not in SUPPORTED_MODEL_TYPES:
            raise CheckpointError(
                f"{where}: model_type {model_type!r} is not supported; supported: "
                f"{', '.join(SUPPORTED_MODEL_TYPES)}"
            )
        activation = raw.get("hidden_act", "silu")
        if activation not in SUPPORTED_ACTIVATIONS:
            raise CheckpointError(f"{where}: hidden_act {activation!r} is not supported (silu is)")
        try:
            heads = _size(raw, "num_attention_heads")
            hidden = _size(raw, "hidden_size")
            rope = _rope(raw, where)
            context = _size(raw, "max_position_embeddings")
            if rope.get("rope_type") == "yarn":
                # YaRN checkpoints may state the context before scaling.
                original = rope.get("original_max_position_embeddings")
                if original:
                    context = max(context, int(float(original) * float(rope["factor"])))
            window = _sliding_window(raw)
            return cls(
                model_type=model_type,
                vocab_size=_size(raw, "vocab_size"),
                hidden_size=hidden,
                intermediate_size=_size(raw, "intermediate_size"),
                num_layers=_size(raw, "num_hidden_layers"),
                num_heads=heads,
                num_kv_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or hidden // heads),
                rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
                rope_theta=float(rope["rope_theta"]),
                # Within its window, sliding attention is full attention.
                max_context=min(context, window) if window else context,
                tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
                qkv_bias=model_type == "qwen2" or bool(raw.get("attention_bias", False)),
                output_bias=model_type != "qwen2" and bool(raw.get("attention_bias", False)),
                mlp_bias=bool(raw.get("mlp_bias", False)),
                qk_norm=model_type == "qwen3",
                rope_scaling={} if rope["rope_type"] == "default" else rope,
                parathinker=dict(raw.get("parathinker") or {}),
            )
        except KeyError as error:
            raise CheckpointError(f"{where} lacks {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where}: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """A model folder's JSON file.

    Raises:
        CheckpointError: it holds something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return found


def _size(raw: dict[str, Any], name: str) -> int:
    size = int(raw[name])
    if size < 1:
        raise ValueError(f"{name} should be 1 or more, got {size}")
    return size


def _rope(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """RoPE parameters in one form, from either layout that transformers has written."""
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    rope.setdefault("rope_theta", raw.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    if rope["rope_type"] not in SUPPORTED_ROPE_TYPES:
        raise CheckpointError(
            f"{where}: rope type {rope['rope_type']!r} is not supported; supported: "
            f"{', '.join(SUPPORTED_ROPE_TYPES)}"
        )
    for name in _ROPE_NEEDS.get(rope["rope_type"], ()):
        float(rope[name])
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(f"{where}: partial_rotary_factor other than 1 is not supported")
    if rope["rope_type"] in ("yarn", "llama3"):
        rope.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings"))
    return rope


def _sliding_window(raw: dict[str, Any]) -> int | None:
    if not raw.get("use_sliding_window", raw.get("model_type") == "mistral"):
        return None
    # transformers' default where an old Mistral's config.json does not say.
    window = raw.get("sliding_window", 4096 if raw.get("model_type") == "mistral" else None)
    return int(window) if window else None


def thought_embedding_name(layer: int) -> str:
    """Name of a layer's thought embedding in a checkpoint."""
    return f"model.layers.{layer}.self_attn.{THOUGHT_EMBEDDING_MODULE}.weight"


def is_thought_embedding(name: str) -> bool:
    """Whether a tensor's name is that of a thought embedding."""
    return name.endswith(f".self_attn.{THOUGHT_EMBEDDING_MODULE}.weight")
