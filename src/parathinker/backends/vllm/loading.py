"""From a model's name to a running vLLM with our parts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parathinker.backends.vllm.engine import VLLMEngine
from parathinker.backends.vllm.environment import prepare_environment
from parathinker.backends.vllm.limits import Limits
from parathinker.backends.vllm.meter import Meter, stat_logger
from parathinker.backends.vllm.settings import BYTES, check_version, engine_args
from parathinker.errors import CheckpointError, EngineError, ParaThinkerError, UsageError
from parathinker.loading import Loaded, checked_vocabulary, end_ids
from parathinker.modeling.checkpoint import thought_rows
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.folders import resolve_model
from parathinker.prompt import PromptCodec


def load_vllm(
    name: str,
    dtype: str,
    *,
    plain: bool,
    thought_embeddings: bool,
    wishes: dict[str, Any],
) -> Loaded:
    """Start vLLM on a model; arguments and errors as in :meth:`ParaThinker.from_pretrained`."""
    prepare_environment()
    check_version()
    folder = resolve_model(name)
    config = DecoderConfig.from_folder(folder)
    _check_heads(folder, config)
    codec = PromptCodec.from_folder(folder, plain)
    banned = checked_vocabulary(config, codec)
    rows = thought_rows(folder, config) if thought_embeddings else 0
    if rows and rows <= codec.max_paths:
        raise CheckpointError(
            f"the thought embeddings have {rows} rows; {codec.max_paths} paths need "
            f"{codec.max_paths + 1}"
        )
    wishes = dict(wishes)
    self_test = wishes.pop("self_test", True)
    arguments = engine_args(folder, config, codec, rows, _dtype(dtype), wishes)
    engine = VLLMEngine(
        lambda meter: _start(arguments, meter),
        lambda llm: _limits(llm, config),
        codec.control if codec.max_paths else None,
        banned,
    )
    try:
        if self_test and codec.max_paths:
            from parathinker.backends.vllm.selftest import run_self_test

            run_self_test(engine, codec, config)
    except BaseException:
        engine.close()
        raise
    limits = engine.limits
    tokens = min(limits.context, limits.blocks // limits.ranks * limits.block_tokens)
    return Loaded(engine, config, codec, end_ids(folder), tokens)


def _check_heads(folder: Path, config: DecoderConfig) -> None:
    """vLLM finds out about heads it has no kernels for when it is asked the first question."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    sizes = CPUAttentionBackend.get_supported_head_sizes()
    if config.head_dim not in sizes:
        raise CheckpointError(
            f"{folder} has attention heads of size {config.head_dim}; on CPUs vLLM has "
            f"{', '.join(map(str, sizes))} only. The native engine runs this model"
        )


def _dtype(name: str) -> str:
    from vllm.platforms import current_platform

    if name not in ("auto", *BYTES):
        raise UsageError(f"dtype should be one of {', '.join(('auto', *BYTES))}; got {name!r}")
    if name == "auto":
        return "float32" if current_platform.is_cpu() else "bfloat16"
    return name


def _start(arguments: dict[str, Any], meter: Meter) -> Any:
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(**arguments), stat_loggers=[stat_logger(meter)]
        )
    except TypeError as error:
        raise UsageError(f"vLLM does not take this argument: {error}") from error
    except ParaThinkerError:
        raise
    except Exception as error:
        raise EngineError(f"vLLM does not start: {error}") from error


def _limits(llm: Any, config: DecoderConfig) -> Limits:
    settings = llm.vllm_config
    cache, model = settings.cache_config, settings.model_config
    size = BYTES[str(model.dtype).removeprefix("torch.")]
    return Limits(
        context=int(model.max_model_len),
        blocks=int(cache.num_gpu_blocks),
        block_tokens=int(cache.block_size),
        bytes_per_token=2 * config.num_layers * config.num_kv_heads * config.head_dim * size,
        ranks=int(settings.parallel_config.data_parallel_size),
        seats=int(settings.scheduler_config.max_num_seqs),
    )
