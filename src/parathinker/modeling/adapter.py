"""LoRA adapters on a model that thinks in parallel, by PEFT: adding, saving, loading, merging.

Beside the low-rank updates, thought embeddings and the rows of control tokens are trained in full,
in the embedding and, where it is not tied, in the output head: they start from nothing, and a
low-rank update of the whole vocabulary would be the wrong tool. A saved adapter holds these and
says which base it was made for; the base itself stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parathinker.errors import CheckpointError, MissingExtraError, UsageError
from parathinker.modeling.adapter_base import read_base
from parathinker.modeling.config import THOUGHT_EMBEDDING_MODULE
from parathinker.modeling.folders import resolve_model
from parathinker.modeling.prepare import ready_model
from parathinker.tokens import ControlTokens

_ADAPTER = "default"
_PREFIX = "base_model.model."


def is_peft(model: object) -> bool:
    """Whether a model has adapters on it."""
    return hasattr(model, "peft_config")


def add_adapter(
    model: Any,
    control: ControlTokens,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: tuple[str, ...],
) -> Any:
    """Freeze a model with thought embeddings and put a fresh adapter on it.

    Raises:
        UsageError: it lacks one of ``target_modules``.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("LoRA", "train") from error
    rows = sorted(control.ids)
    tied = model.config.tie_word_embeddings
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # it only divides it
        lora_dropout=dropout,
        target_modules=list(target_modules),
        modules_to_save=[THOUGHT_EMBEDDING_MODULE],
        # A tied head follows the embedding by itself.
        trainable_token_indices={"embed_tokens": rows} | ({} if tied else {"lm_head": rows}),
    )
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    absent = [name for name in target_modules if name not in there]
    if absent:
        raise UsageError(f"LoRA's target_modules: this model has no layer {', '.join(absent)}")
    with _without_advice():
        adapted = get_peft_model(model, config)
    _train_in_float32(adapted)
    return adapted


def load_adapter(folder: Path, trainable: bool = False, **options: Any) -> tuple[Any, Any]:
    """The base with the adapter on it, and the tokenizer.

    Args:
        trainable: whether it is to be trained further.
        options: of transformers' ``from_pretrained`` for the base.

    Raises:
        CheckpointError: the adapter or its base is missing or damaged.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("LoRA", "train") from error
    from safetensors import SafetensorError

    base = read_base(folder)
    model, tokenizer = ready_model(
        resolve_model(base.base), base.max_paths, base.thought_embedding_rows, **options
    )
    model.config.parathinker = base.parathinker
    try:
        with _without_advice():
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"the adapter in {folder} cannot be loaded: {error}") from error
    if trainable:
        _train_in_float32(adapted)
    return adapted, tokenizer


@dataclass(frozen=True)
class TrainedRows:
    """Rows of a frozen matrix that are trained all the same."""

    frozen_VE: Tensor
    """The matrix."""
    index_R: Tensor
    """Which rows, int64."""
    rows_RE: Tensor
    """What stands in their place."""


def trained_rows(head: Any) -> TrainedRows | None:
    """Those of an output head on which an adapter trains nothing else; None for any other head."""
    layer = getattr(head, "token_adapter", None)
    if layer is None or layer.merged or layer.disable_adapters:
        return None
    linear = layer.base_layer
    if not isinstance(linear, nn.Linear) or getattr(linear, "bias", None) is not None:
        return None
    rows_RE = layer.trainable_tokens_delta[_ADAPTER]
    if list(layer.active_adapters) != [_ADAPTER] or not linear.weight.is_floating_point():
        return None
    if hasattr(rows_RE, "ds_id"):  # DeepSpeed holds but parts of it outside of PEFT's own call
        return None
    index_R = torch.tensor(layer.token_indices[_ADAPTER], device=rows_RE.device)
    return TrainedRows(linear.weight, index_R, rows_RE)


def merged_weights(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapted model's weights with the adapter worked in; the model stays as it is.

    Args:
        weights: its state, whole. Under the names that PEFT gives: ``….base_layer.weight``,
            ``….lora_A.default.weight``, ``….modules_to_save.default.weight`` and so on.

    Returns:
        Tensors by the base's own names, in the dtypes of the base.
    """
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    scaling = {
        name.removeprefix(_PREFIX): module.scaling[_ADAPTER]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and _ADAPTER in module.scaling
    }
    tokens: dict[str, list[int]] = model.peft_config[_ADAPTER].trainable_token_indices
    merged: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        if module.endswith(".token_adapter.base_layer"):
            owner = module.removesuffix(".token_adapter.base_layer")
            rows = state.get(f"{owner}.token_adapter.trainable_tokens_delta.{_ADAPTER}")
            if rows is None:  # the head that is tied to the embedding
                continue
            ids = tokens.get(owner.rpartition(".")[2], tokens["embed_tokens"])
            index = torch.tensor(ids, device=tensor.device)
            merged[f"{owner}.{leaf}"] = tensor.index_copy(0, index, rows.to(tensor))
        elif module.endswith(".base_layer"):
            owner = module.removesuffix(".base_layer")
            if leaf == "weight" and owner in scaling:
                low, high = (state[f"{owner}.lora_{x}.{_ADAPTER}.weight"].float() for x in "AB")
                tensor = (tensor.float() + (high @ low) * scaling[owner]).to(tensor.dtype)
            merged[f"{owner}.{leaf}"] = tensor
        elif f".modules_to_save.{_ADAPTER}" in module:
            owner = module.removesuffix(f".modules_to_save.{_ADAPTER}")
            like = state[f"{owner}.original_module.{leaf}"]
            merged[f"{owner}.{leaf}"] = tensor.to(like.dtype)
        elif not _is_part_of_adapter(name):
            merged[name] = tensor
    return merged


def _is_part_of_adapter(name: str) -> bool:
    parts = name.split(".")
    return any(
        part in ("lora_A", "lora_B", "original_module", "token_adapter", "trainable_tokens_delta")
        for part in parts
    )


@contextmanager
def _without_advice() -> Iterator[None]:
    """PEFT calls what transformers is about to rename, and users can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _train_in_float32(model: Any) -> None:
    """Steps are too small for bfloat16 to take, whatever the base is held in."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
