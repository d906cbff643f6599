"""From a model's folder and the user's wishes to vLLM's engine arguments.

Refused is what vLLM would do silently wrong: a mask, a position or a token that is not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from parathinker.backends.vllm.plugin import ARCHITECTURE
from parathinker.errors import MissingExtraError, UsageError
from parathinker.modeling.config import DecoderConfig
from parathinker.prompt import PromptCodec

SUPPORTED = ("0.30", "0.33")
"""vLLM releases from the first on, below the second."""
DEFAULT_CONTEXT = 262_144
"""Most tokens of one question together, where the user names no max_model_len."""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

_OURS = (
    *("model", "tokenizer", "skip_tokenizer_init", "hf_overrides", "logits_processors"),
    *("kv_transfer_config", "worker_extension_cls", "logprobs_mode", "max_logprobs"),
    *("enable_prefix_caching", "disable_log_stats", "trust_remote_code", "scheduling_policy"),
)
"""Set here, and nobody else's to set."""
_ELSEWHERE = (
    "a question's requests have to stay together, so they are shared out here; start a server each "
    "and balance between whole questions"
)
_REFUSED = {
    "speculative_config": "with it vLLM leaves our sampler out",
    "speculative_model": "with it vLLM leaves our sampler out",
    "kv_events_config": "it would name blocks by tokens that they do not hold",
    "decode_context_parallel_size": "context parallel splits blocks that are shared here",
    "prefill_context_parallel_size": "context parallel splits blocks that are shared here",
    "disable_hybrid_kv_cache_manager": "sharing blocks needs one group of full attention",
    "kv_cache_dtype": "copying between blocks knows unquantised keys and values only",
    "pipeline_parallel_size": "it was not tested; use tensor_parallel_size",
    "enable_lora": "adapters change keys that are shared; merge them into the weights",
    "kv_sharing_fast_prefill": "it computes other keys than ours",
    "kv_offloading_size": "it would take our KV connector's place",
    "scheduler_cls": "our connector was tested with vLLM's own scheduler",
    "watermark_config": "with it vLLM leaves our sampler out",
    "data_parallel_rank": _ELSEWHERE,
    "data_parallel_start_rank": _ELSEWHERE,
    "data_parallel_external_lb": _ELSEWHERE,
    "data_parallel_hybrid_lb": _ELSEWHERE,
    "data_parallel_multi_port_external_lb": _ELSEWHERE,
    "runner": "the model generates",
    "convert": "the model generates",
}
_HARMLESS = {
    "decode_context_parallel_size": 1,
    "prefill_context_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "kv_cache_dtype": "auto",
    "enable_lora": False,
    "data_parallel_external_lb": False,
    "data_parallel_hybrid_lb": False,
    "data_parallel_multi_port_external_lb": False,
    "kv_sharing_fast_prefill": False,
    "runner": "generate",
}


def check_version() -> str:
    """vLLM's version, if it is there and supported.

    Raises:
        MissingExtraError: it is not installed.
        UsageError: it is older or newer than what was tested.
    """
    try:
        from vllm import __version__
    except ImportError as error:
        raise MissingExtraError("the vLLM backend", "vllm") from error
    found = str(__version__)
    try:
        release = Version(found).release
    except InvalidVersion:
        release = ()
    if not Version(SUPPORTED[0]).release <= release < Version(SUPPORTED[1]).release:
        raise UsageError(
            f"vLLM {found} is not supported: from {SUPPORTED[0]} on, below {SUPPORTED[1]}, is what "
            "the backend was tested with"
        )
    return found


def engine_args(
    folder: Path,
    config: DecoderConfig,
    codec: PromptCodec,
    thought_rows: int,
    dtype: str,
    wishes: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments of vLLM's ``AsyncEngineArgs``.

    Args:
        thought_rows: rows of the thought embeddings; 0 if there are none.
        wishes: the user's own.

    Raises:
        UsageError: one of them is set here, or would make answers wrong.
    """
    for name, value in wishes.items():
        if name in _OURS:
            raise UsageError(f"{name} is set by the vLLM backend itself; leave it out")
        if name in _REFUSED and value != _HARMLESS.get(name):
            raise UsageError(f"{name}={value!r} is refused: {_REFUSED[name]}")
    connector = {
        "kv_connector": "ParaThinkerConnector",
        "kv_connector_module_path": "parathinker.backends.vllm.connector",
        # As a producer it would drop what preempted requests have still to say.
        "kv_role": "kv_consumer",
    }
    given = dict(wishes)
    abandoned = given.pop("abandoned_s", None)
    if abandoned is not None:
        connector["kv_connector_extra_config"] = {"abandoned_s": float(abandoned)}  # type: ignore[assignment]
    return {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "max_model_len": -1,  # what fits into memory
        "hf_overrides": Overrides(_overrides(config, codec, thought_rows)),
        "logits_processors": ["parathinker.backends.vllm.sampling:ThinkingSampler"],
        "kv_transfer_config": connector,
        "worker_extension_cls": "parathinker.backends.vllm.reference.ReferenceWorker",
        "enable_prefix_caching": True,
        # What was begun first ends first: others' keys and values are not held while it waits.
        "scheduling_policy": "priority",
        "max_logprobs": -1,
        **given,
    }


class Overrides:
    """Puts our own values into the config that vLLM read; called in each of its processes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self, config: Any) -> Any:
        config.update(self.values)
        return config


def _overrides(config: DecoderConfig, codec: PromptCodec, thought_rows: int) -> dict[str, Any]:
    rope = {"rope_type": "default", **config.rope_scaling, "rope_theta": config.rope_theta}
    paths = max(codec.max_paths, 1)
    control = codec.control if codec.max_paths else None
    return {
        "architectures": [ARCHITECTURE],
        "head_dim": config.head_dim,
        "num_key_value_heads": config.num_kv_heads,
        "tie_word_embeddings": config.tie_word_embeddings,
        # vLLM's Llama takes the biases of queries, keys and values from the second, if it is there.
        "attention_bias": config.output_bias,
        "qkv_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        # Within its window, sliding attention is full attention.
        "sliding_window": None,
        "use_sliding_window": False,
        "layer_types": None,
        # A sequence holds all paths one behind another, at positions that stay small.
        "max_position_embeddings": min(
            max(config.max_context * (paths + 1), 1), max(config.max_context, DEFAULT_CONTEXT)
        ),
        # That there is a section makes vLLM ask the model for positions.
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1]},
        "parathinker_vllm": {
            "thought_rows": thought_rows,
            "qk_norm": config.qk_norm,
            "rope": rope,
            "max_position": config.max_context,
            "path_openings": list(control.opens) if control else [],
            "summary_opening": control.summary_open if control else -1,
        },
    }
