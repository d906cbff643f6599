"""The lean decoder equals transformers on plain causal text, for every RoPE variant too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Read
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.runner import TorchRunner
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.decoder import Decoder
from parathinker.modeling.rope import RotaryEmbedding
from tiny_models import build_model

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 10_000.0},
    "large base": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
    "llama3": {**LLAMA3, "rope_theta": 500_000.0},
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "rope_theta": 10_000.0,
    },
    "yarn, context not stated": {"rope_type": "yarn", "factor": 2.5, "rope_theta": 10_000.0},
    "yarn, all set": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 16,
        "beta_slow": 2,
        "attention_factor": 0.8,
        "truncate": False,
        "rope_theta": 50_000.0,
    },
    "yarn, mscale": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 512,
        "mscale": 0.7,
        "mscale_all_dim": 1.2,
        "rope_theta": 10_000.0,
    },
}


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("rope", ROPES)
def test_rotation_angles_equal_those_of_transformers(rope, head_dim):
    theirs = AutoConfig.for_model(
        "llama",
        hidden_size=4 * head_dim,
        head_dim=head_dim,
        num_attention_heads=4,
        max_position_embeddings=4096,
        rope_parameters=dict(ROPES[rope]),
    )
    positions = torch.tensor([0, 1, 2, 100, 511, 1025, 4095, 16_000])
    cos, sin = LlamaRotaryEmbedding(theirs)(torch.zeros(1), positions[None])
    ours = DecoderConfig.from_dict(theirs.to_dict())
    found_cos, found_sin = RotaryEmbedding(ours, CPU).angles(positions)
    assert torch.allclose(found_cos[:, 0], cos[0], atol=1e-6)
    assert torch.allclose(found_sin[:, 0], sin[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_the_older_layout_of_rope_scaling_means_the_same(kind):
    raw = {
        "model_type": "llama",
        "vocab_size": 10,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
    }
    scaling = {k: v for k, v in LLAMA3.items() if k != "rope_type"}
    older = {**raw, "rope_theta": 500_000.0, "rope_scaling": {kind: "llama3", **scaling}}
    newer = {**raw, "rope_parameters": {**LLAMA3, "rope_theta": 500_000.0}}
    positions = torch.arange(0, 4096, 37)
    one, other = (
        RotaryEmbedding(DecoderConfig.from_dict(c), CPU).angles(positions) for c in (older, newer)
    )
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def causal_logits(folder, tokens: list[int], chunks: list[int]) -> torch.Tensor:
    """Logits of every token of one plain segment, fed chunk by chunk."""
    config = DecoderConfig.from_folder(folder)
    decoder = Decoder(config, load_weights(folder, config, CPU, torch.float32))
    blocks = np.arange(-(-len(tokens) // BLOCK_TOKENS))
    pool = KVPool(config, len(blocks), CPU, torch.float32)
    rows, at = [], 0
    for size in chunks:
        here = np.arange(at, at + size)
        at += size
        batch = ForwardBatch(
            token_ids_N=np.array(tokens)[here],
            positions_N=here,
            thought_ids_N=np.zeros_like(here),
            slots_N=here,
            reads=(Read(0, size, blocks, at, size > 1),),
            rows_R=np.arange(size),
        )
        rows.append(TorchRunner(decoder).forward(batch, pool))
    return torch.cat(rows)


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, one kv head": ("llama", {"num_key_value_heads": 1}),
    "llama, no grouping": ("llama", {"num_key_value_heads": 4}),
    "llama, three layers": ("llama", {"num_hidden_layers": 3}),
    "llama, yarn": ("llama", {"rope_parameters": ROPES["yarn, all set"]}),
    "llama 3": ("llama", {"rope_parameters": ROPES["llama3"]}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3 with biases": ("qwen3", {"attention_bias": True}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral with a window": ("mistral", {"sliding_window": 64}),
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_plain_chain_has_the_logits_of_transformers(variant, tied, tmp_path, measured):
    model_type, options = VARIANTS[variant]
    model = build_model(model_type, tied=tied, **options)
    model.save_pretrained(tmp_path)
    tokens = torch.randint(0, 300, (50,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0]
    assert expected.std() > 0.5, "such flat logits would hide mistakes"
    for chunks in ([50], [20, 1, 1, 28]):
        difference = (causal_logits(tmp_path, tokens, chunks) - expected).abs().max().item()
        measured("largest logit difference, plain causal text", difference)
        assert difference < 1e-4
