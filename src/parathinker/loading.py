"""From a model's name and how it is to run to everything that an engine is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from parathinker.engine.engine import EngineOptions
from parathinker.engine.memory import kv_blocks
from parathinker.engine.runner import WEIGHT_FORMATS, Runner, make_runner
from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.folders import resolve_model
from parathinker.prompt import PromptCodec

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 256, 2048
"""Tokens of a forward, by default: what others wait for while a long prompt is read."""


@dataclass(frozen=True)
class LoadedModel:
    """Weights ready to run, tokenizer, and how large the engine may be."""

    runner: Runner
    codec: PromptCodec
    end_ids: frozenset[int]
    """The end-of-sequence tokens that the checkpoint names."""
    options: EngineOptions


def load_model(
    name: str,
    device: str,
    dtype: str,
    *,
    weights: str,
    plain: bool,
    thought_embeddings: bool,
    kv_cache_memory: int | float | str | None,
    max_batch_tokens: int | None,
    threads: int | None,
    compile: bool,
) -> LoadedModel:
    """Load a model; arguments and errors as in :meth:`ParaThinker.from_pretrained`."""
    folder = resolve_model(name)
    target = _device(device)
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    types["auto"] = torch.float32 if target.type == "cpu" else torch.bfloat16
    if dtype not in types:
        raise UsageError(f"dtype should be one of {', '.join(sorted(types))}; got {dtype!r}")
    if weights not in WEIGHT_FORMATS:
        raise UsageError(f"weights should be one of {', '.join(WEIGHT_FORMATS)}; got {weights!r}")
    for field, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise UsageError(f"{field} should be a whole number from 1; got {value!r}")
    config = DecoderConfig.from_folder(folder)
    codec = PromptCodec.from_folder(folder, plain)
    blocks = kv_blocks(kv_cache_memory, config, target, types[dtype])
    loaded = load_weights(folder, config, target, types[dtype])
    if not thought_embeddings:
        loaded = loaded.without_thoughts()
    rows = loaded.thought_rows
    if rows is not None and rows <= codec.max_paths:
        raise CheckpointError(
            f"the thought embeddings have {rows} rows; {codec.max_paths} paths need "
            f"{codec.max_paths + 1}"
        )
    runner = make_runner(config, loaded, weights, threads, compile)
    default = CPU_BATCH_TOKENS if target.type == "cpu" else GPU_BATCH_TOKENS
    options = EngineOptions(blocks, max_batch_tokens or default)
    return LoadedModel(runner, codec, _end_ids(folder), options)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} is unknown or not there ({reason}); try auto, cpu, cuda or mps"
        ) from error
    return device


def _end_ids(folder: Path) -> frozenset[int]:
    """End-of-sequence ids that a checkpoint names."""
    for file in ("generation_config.json", "config.json"):
        if (folder / file).is_file():
            found = read_json_object(folder / file).get("eos_token_id")
            if found is not None:
                return frozenset([found] if isinstance(found, int) else found)
    return frozenset()
