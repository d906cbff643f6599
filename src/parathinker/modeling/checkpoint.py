"""Reading checkpoints: Hugging Face folders of safetensors, every tensor's name and shape checked.

Query, key and value projections are fused here, as are gate and up, so the decoder's forward does
one matrix product for each. Nothing but safetensors is read: no pickle, no remote code.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from parathinker.errors import CheckpointError
from parathinker.modeling.config import DecoderConfig, thought_embedding_name


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. Linear weights are [out, in]; q, k, v stand one above the other."""

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Tensor
    output_bias: Tensor | None
    post_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None
    thought: Tensor | None
    """Thought embedding [rows, head_dim]; None counts as zero."""


@dataclass(frozen=True)
class DecoderWeights:
    """All weights of a decoder."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor

    @property
    def thought_rows(self) -> int | None:
        """Rows of the thought embeddings, None where the checkpoint has none."""
        thought = self.layers[0].thought
        return None if thought is None else thought.shape[0]

    def without_thoughts(self) -> DecoderWeights:
        """The same decoder, its thought embeddings left out."""
        layers = tuple(replace(layer, thought=None) for layer in self.layers)
        return replace(self, layers=layers)


def load_weights(
    folder: Path, config: DecoderConfig, device: torch.device, dtype: torch.dtype
) -> DecoderWeights:
    """Read all weights of a folder.

    Raises:
        CheckpointError: a file is missing or damaged, or a tensor missing or of the wrong shape;
            the message names it.
    """
    with ExitStack() as stack:
        reader = _Reader(folder, stack, device, dtype)
        c, D = config, config.head_dim
        tables = [thought_embedding_name(i) for i in range(c.num_layers)]
        has_thoughts = any(reader.has(name) for name in tables)
        layers = []
        for i in range(c.num_layers):
            prefix = f"model.layers.{i}."

            def take(name: str, *shape: int, prefix: str = prefix) -> Tensor:
                return reader.take(prefix + name, shape)

            def fuse(names: list[str], outs: list[int], suffix: str, *rest: int) -> Tensor:
                return torch.cat(
                    [take(f"{n}.{suffix}", out, *rest) for n, out in zip(names, outs, strict=True)]
                )

            attention = [f"self_attn.{p}_proj" for p in "qkv"]
            qkv_sizes = [c.num_heads * D, c.num_kv_heads * D, c.num_kv_heads * D]
            mlp, mlp_sizes = ["mlp.gate_proj", "mlp.up_proj"], [c.intermediate_size] * 2
            thought = None
            if has_thoughts:
                thought = reader.take(tables[i], (reader.shape(tables[0])[0], D))
            layers.append(
                LayerWeights(
                    input_norm=take("input_layernorm.weight", c.hidden_size),
                    qkv=fuse(attention, qkv_sizes, "weight", c.hidden_size),
                    qkv_bias=fuse(attention, qkv_sizes, "bias") if c.qkv_bias else None,
                    q_norm=take("self_attn.q_norm.weight", D) if c.qk_norm else None,
                    k_norm=take("self_attn.k_norm.weight", D) if c.qk_norm else None,
                    output=take("self_attn.o_proj.weight", c.hidden_size, c.num_heads * D),
                    output_bias=(
                        take("self_attn.o_proj.bias", c.hidden_size) if c.output_bias else None
                    ),
                    post_norm=take("post_attention_layernorm.weight", c.hidden_size),
                    gate_up=fuse(mlp, mlp_sizes, "weight", c.hidden_size),
                    gate_up_bias=fuse(mlp, mlp_sizes, "bias") if c.mlp_bias else None,
                    down=take("mlp.down_proj.weight", c.hidden_size, c.intermediate_size),
                    down_bias=take("mlp.down_proj.bias", c.hidden_size) if c.mlp_bias else None,
                    thought=thought,
                )
            )
        embedding = reader.take("model.embed_tokens.weight", (c.vocab_size, c.hidden_size))
        head = embedding
        if not c.tie_word_embeddings:
            head = reader.take("lm_head.weight", (c.vocab_size, c.hidden_size))
        norm = reader.take("model.norm.weight", (c.hidden_size,))
        return DecoderWeights(embedding, tuple(layers), norm, head)


def thought_rows(folder: Path, config: DecoderConfig) -> int:
    """Rows of a folder's thought embeddings, 0 where it has none; reads no weights.

    Raises:
        CheckpointError: as :func:`load_weights`; or only some layers have one, or of another shape.
    """
    with ExitStack() as stack:
        reader = _Reader(folder, stack, torch.device("cpu"), torch.float32)
        tables = [thought_embedding_name(i) for i in range(config.num_layers)]
        if not any(reader.has(name) for name in tables):
            return 0
        rows = reader.shape(tables[0])[0]
        for name in tables:
            found = reader.shape(name)
            if found != [rows, config.head_dim]:
                raise CheckpointError(
                    f"{folder}: tensor {name} has shape {found}, not {[rows, config.head_dim]}"
                )
        return rows


class _Reader:
    """All tensors of a folder's safetensors files, by name."""

    def __init__(
        self, folder: Path, stack: ExitStack, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        self._files: dict[str, Any] = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{path} cannot be read; it is damaged or cut short: {error}"
                ) from error
            self._files.update(dict.fromkeys(file.keys(), file))

    def has(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> list[int]:
        if name not in self._files:
            raise CheckpointError(f"{self._folder} lacks the tensor {name}")
        return list(self._files[name].get_slice(name).get_shape())

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        found = self.shape(name)
        if tuple(found) != shape:
            raise CheckpointError(
                f"{self._folder}: tensor {name} has shape {found}, config.json implies "
                f"{list(shape)}"
            )
        tensor: Tensor = self._files[name].get_tensor(name)
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{self._folder}: tensor {name} is {tensor.dtype}; quantised checkpoints are not "
                "supported, save the model in float32 or bfloat16"
            )
        return tensor.to(self._device, self._dtype)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index} is not a valid index: {error}") from error
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} lacks {name}, which {index.name} names")
        return [folder / name for name in names]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    pickles = sorted(p.name for p in folder.glob("*.bin"))
    hint = f" ({pickles[0]} is a pickle, which is not read: convert it)" if pickles else ""
    raise CheckpointError(f"{folder} has no model.safetensors{hint}")
