"""From a model's name and how it is to run to everything that an engine is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.engine.engine import Engine, EngineOptions
from parathinker.engine.memory import kv_blocks
from parathinker.engine.protocol import ThinkingEngine
from parathinker.engine.runner import WEIGHT_FORMATS, make_runner
from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.folders import resolve_model
from parathinker.prompt import PromptCodec

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 256, 2048
"""Tokens of a forward, by default: what others wait for while a long prompt is read."""
BACKENDS = ("native", "vllm")


@dataclass(frozen=True)
class Loaded:
    """A model in an engine that is ready to run."""

    engine: ThinkingEngine
    config: DecoderConfig
    codec: PromptCodec
    end_ids: frozenset[int]
    """The end-of-sequence tokens that the checkpoint names."""
    kv_tokens: int
    """Tokens that the engine's memory holds for one question."""


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
    backend: str,
    engine_args: dict[str, Any],
) -> Loaded:
    """Load a model; arguments and errors as in :meth:`ParaThinker.from_pretrained`."""
    if backend not in BACKENDS:
        raise UsageError(f"backend should be one of {', '.join(BACKENDS)}; got {backend!r}")
    for field, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise UsageError(f"{field} should be a whole number from 1; got {value!r}")
    if backend == "vllm":
        from parathinker.backends.vllm.loading import load_vllm

        own = {"device": device, "weights": weights, "kv_cache_memory": kv_cache_memory}
        own |= {"threads": threads, "compile": compile}
        neutral: tuple[Any, ...] = ("auto", None, False)
        for field, given in own.items():
            if given not in neutral:
                raise UsageError(
                    f"{field} is the native engine's, and backend is vllm; got {given!r}. vLLM's "
                    "own arguments are taken by their own names"
                )
        wishes = dict(engine_args)
        if max_batch_tokens is not None:
            wishes["max_num_batched_tokens"] = max_batch_tokens
        return load_vllm(
            name, dtype, plain=plain, thought_embeddings=thought_embeddings, wishes=wishes
        )
    if engine_args:
        raise UsageError(
            f"{', '.join(sorted(engine_args))}: the native engine has no such argument; vLLM's own "
            'go with backend="vllm"'
        )
    folder = resolve_model(name)
    target = _device(device)
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    types["auto"] = torch.float32 if target.type == "cpu" else torch.bfloat16
    if dtype not in types:
        raise UsageError(f"dtype should be one of {', '.join(sorted(types))}; got {dtype!r}")
    if weights not in WEIGHT_FORMATS:
        raise UsageError(f"weights should be one of {', '.join(WEIGHT_FORMATS)}; got {weights!r}")
    config = DecoderConfig.from_folder(folder)
    codec = PromptCodec.from_folder(folder, plain)
    banned = checked_vocabulary(config, codec)
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
    control = codec.control if codec.max_paths else None
    engine = Engine(runner, control, banned, options)
    return Loaded(engine, config, codec, end_ids(folder), blocks * BLOCK_TOKENS)


def checked_vocabulary(config: DecoderConfig, codec: PromptCodec) -> frozenset[int]:
    """Tokens that no segment may hold, but for its own closing token.

    Raises:
        CheckpointError: the tokenizer has tokens that the model has not.
    """
    largest = max(codec.tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise CheckpointError(
            f"the tokenizer's largest id is {largest}, but the model's vocabulary has "
            f"{config.vocab_size} entries; resize its embedding to the tokenizer"
        )
    # A model may have more rows than its tokenizer has tokens; those mean nothing.
    return codec.control_ids | frozenset(range(largest + 1, config.vocab_size))


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


def end_ids(folder: Path) -> frozenset[int]:
    """End-of-sequence ids that a checkpoint names."""
    for file in ("generation_config.json", "config.json"):
        if (folder / file).is_file():
            found = read_json_object(folder / file).get("eos_token_id")
            if found is not None:
                return frozenset([found] if isinstance(found, int) else found)
    return frozenset()
