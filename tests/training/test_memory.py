"""The memory plan's activations are what PyTorch keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from parathinker.graph import ThoughtGraph
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.thought_embedding import attach_thought_embeddings
from parathinker.training import attention
from parathinker.training.batch import EncodedExample, pack
from parathinker.training.flops import layer_weights
from parathinker.training.memory import (
    Parameters,
    layer_activations,
    logits_at_once,
    training_memory,
)

TOKENS = 640


def kept_by_a_layer(model_type: str, bf16: bool, **sizes: Any) -> tuple[int, DecoderConfig]:
    """What one more layer keeps: the difference between models of three layers and of two."""
    (two, config), (three, _) = (kept_for_backward(model_type, n, bf16, **sizes) for n in (2, 3))
    return three - two, config


def kept_for_backward(
    model_type: str, layers: int, bf16: bool, **sizes: Any
) -> tuple[int, DecoderConfig]:
    """Bytes of all tensors that a forward pass keeps, each storage once, weights not counted."""
    from transformers import AutoConfig, AutoModelForCausalLM

    attention.register()
    config = AutoConfig.for_model(
        model_type,
        vocab_size=64,
        num_hidden_layers=layers,
        max_position_embeddings=4096,
        attn_implementation=attention.NAME,
        **sizes,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    attach_thought_embeddings(model, 8, 0.1)
    graph = ThoughtGraph.parallel(128, [(1, 128), (2, 128), (3, 128)], 128)
    tokens = tuple(tuple(range(s.length)) for s in graph.segments)
    words = tuple(tuple(t % 64 for t in part) for part in tokens)
    batch = pack([EncodedExample(graph, words, words)], pad_id=0)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        kept_alive.append(tensor)
        return tensor

    kept_alive: list[torch.Tensor] = []
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        hidden = model.model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            thought_ids=batch["thought_ids"],
            thought_layout=batch["thought_layout"],
            use_cache=False,
        ).last_hidden_state
    assert hidden.requires_grad
    return sum(storages.values()), DecoderConfig.from_dict(model.config.to_dict())


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        (
            "llama",
            {
                "hidden_size": 128,
                "intermediate_size": 352,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
            },
        ),
        (
            "qwen2",
            {
                "hidden_size": 192,
                "intermediate_size": 1024,
                "num_attention_heads": 6,
                "num_key_value_heads": 2,
            },
        ),
        (
            "qwen3",
            {
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 32,
            },
        ),
    ],
)
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
def test_a_layer_keeps_what_the_formula_says(
    model_type: str, bf16: bool, sizes: dict[str, int], measured: Callable[..., None]
) -> None:
    found, config = kept_by_a_layer(model_type, bf16, **sizes)
    compute = 2 if bf16 else 4
    # Weights are kept once more as they were cast; the plan counts them with the weights.
    cast = 2 * layer_weights(config) if bf16 else 0
    expected = layer_activations(config, compute, residual=4) * TOKENS
    name = f"activation formula / PyTorch, {model_type}, {'autocast' if bf16 else 'float32'}"
    measured(name, expected / (found - cast))
    assert expected == pytest.approx(found - cast, rel=0.1)


QWEN_7B = DecoderConfig.from_dict(
    {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
    }
)


def memory(**changes: Any) -> Any:
    options = {
        "gpus": 8,
        "sharded": True,
        "weight_bytes": 4,
        "bf16": True,
        "checkpointing": True,
        **changes,
    }
    total = 7_615_616_512
    parameters = Parameters(total, total, 233_057_792, 152064 * 3584)
    return training_memory(QWEN_7B, parameters, 28_672, **options)


def test_sharding_divides_what_zero_divides() -> None:
    one, eight = memory(gpus=1), memory(gpus=8)
    for part in ("weights", "gradients", "optimiser"):
        assert getattr(one, part) == pytest.approx(8 * getattr(eight, part))
    # 16 bytes a parameter in all: weight, gradient, two moments.
    together = one.weights + one.gradients + one.optimiser
    assert together == pytest.approx(16 * 7_615_616_512)
    assert eight.activations == one.activations


def test_checkpointing_keeps_a_layers_input_in_place_of_all_of_it() -> None:
    assert memory().activations < memory(checkpointing=False).activations / 5
    inputs = 28 * 2 * 3584 * 28_672
    assert memory().activations > inputs


def test_whole_logits_take_more_than_everything_that_chunks_leave() -> None:
    assert logits_at_once(QWEN_7B, 28_672) > 40e9
    assert memory().loss < 5e9
