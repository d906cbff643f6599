"""How much memory a GPU needs for a training step, part by part, from sizes alone.

- Weights, gradients and Adam's two moments: 4 + 4 + 8 bytes a trained parameter in float32, split
  among the GPUs where the recipe says so (the count of ZeRO, arXiv 1910.02054, with float32 weights
  in place of a float16 copy).
- Activations: the tensors that PyTorch keeps for the backward pass of a decoder layer as
  transformers writes it, operation by operation, after the model of Korthikanti et al.,
  arXiv 2205.05198, section 4, with RMSNorm, grouped-query attention by a flash kernel, and SwiGLU
  in place of theirs. ``tests/training/test_memory.py`` compares it with what PyTorch keeps.
- Activation checkpointing keeps each layer's input only, and one layer's activations while that
  layer goes backward (arXiv 1604.06174).
"""

from __future__ import annotations

from dataclasses import dataclass

from parathinker.modeling.config import DecoderConfig
from parathinker.training.loss import CHUNK_NUMBERS

OTHER_BYTES = 3 * 10**9
"""Assumed: the CUDA context, workspaces of cuBLAS and NCCL, and what the allocator cannot use."""
NF4_BYTES = 0.516
"""A weight in four bits and its share of doubly quantised scales (arXiv 2305.14314)."""
_GATHERED_LAYERS = 2
"""FSDP2 gathers the next layer's weights while one computes."""


@dataclass(frozen=True)
class Parameters:
    """Of a model as it is trained."""

    total: int
    """Adapters included; a tied head counts once."""
    trained: int
    layer: int
    """Of one layer, without adapters."""
    vocabulary: int
    """Of the embedding; of the head as many again where it is not tied."""
    head_trained: bool = True
    quantised: int = 0
    """Those held in four bits."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    working_weights: float
    """Weights in the form that they compute in: gathered from all GPUs, or cast to bfloat16."""
    gradients: float
    optimiser: float
    activations: float
    loss: float
    """Gradients of the chunked cross-entropy, and a chunk's logits."""
    other: float

    @property
    def total(self) -> float:
        """All together, as if all peaks came at once."""
        return (
            self.weights
            + self.working_weights
            + self.gradients
            + self.optimiser
            + self.activations
            + self.loss
            + self.other
        )


def training_memory(
    config: DecoderConfig,
    parameters: Parameters,
    tokens: int,
    *,
    gpus: int,
    sharded: bool,
    weight_bytes: int,
    bf16: bool,
    checkpointing: bool,
) -> Memory:
    """What a GPU needs for a batch of so many tokens, all of them predicted.

    Args:
        weight_bytes: of a frozen weight that is not quantised; trained ones have 4.
        sharded: weights, gradients and moments are split among the GPUs.
    """
    parts = gpus if sharded else 1
    frozen = parameters.total - parameters.trained - parameters.quantised
    held = 4 * parameters.trained + weight_bytes * frozen + NF4_BYTES * parameters.quantised
    compute = 2 if bf16 else 4
    head = parameters.vocabulary * (1 if config.tie_word_embeddings else 2)
    if sharded:
        working = compute * (_GATHERED_LAYERS * parameters.layer + head)
        # A layer's gradients, whole, and as float32 on their way to the other GPUs.
        working += (compute + 4) * min(parameters.layer, parameters.trained)
    else:
        working = 2 * (config.num_layers * parameters.layer + head) if bf16 else 0
    # DDP adds gradients up in buckets of its own.
    copies = 2 if gpus > 1 and not sharded else 1
    # Sharded weights compute in bfloat16 throughout; autocast leaves the residual stream float32.
    residual = 2 if bf16 and sharded else 4
    layer = layer_activations(config, compute, residual) * tokens
    if checkpointing:
        inputs = config.num_layers * residual * config.hidden_size * tokens
        # Gradients of the MLP's three inner tensors and of the residual stream.
        backward = 3 * compute * config.intermediate_size + 2 * residual * config.hidden_size
        activations = inputs + layer + backward * tokens
    else:
        activations = config.num_layers * layer
    activations += (4 + residual + compute) * config.hidden_size * tokens  # the last norm
    chunk = min(CHUNK_NUMBERS, tokens * config.vocab_size)
    loss = 4 * config.hidden_size * tokens + (2 + 4 + 2) * chunk
    if parameters.head_trained:
        loss += (4 + compute) * parameters.vocabulary
    return Memory(
        weights=held / parts,
        working_weights=working,
        gradients=4 * parameters.trained * copies / parts,
        optimiser=8 * parameters.trained / parts,
        activations=activations,
        loss=loss,
        other=OTHER_BYTES,
    )


def layer_activations(config: DecoderConfig, compute: int, residual: int) -> int:
    """Bytes a token that one layer keeps for its backward pass.

    Args:
        compute: bytes of a number that a matrix product gives, 2 for bfloat16.
        residual: of a number in the residual stream.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_heads * config.head_dim
    keys = config.num_kv_heads * config.head_dim
    # Two norms: the float32 input, what was normalised, and what goes into the products.
    norms = 2 * hidden * (4 + residual + compute)
    if config.qk_norm:
        norms += (queries + keys) * (4 + compute)
    # RoPE's cosines have the residual stream's dtype, and so have the queries and keys it turns.
    turned = max(compute, residual)
    # Queries, keys and values as the kernel takes them; its output, in the order of heads and in
    # that of tokens; a float32 log-sum-exp a head.
    attention = turned * (2 * queries + keys) + compute * (queries + keys) + 4 * config.num_heads
    # Gate and up, SiLU of the gate, and their product.
    mlp = 4 * compute * inner
    return norms + attention + mlp


def logits_at_once(config: DecoderConfig, tokens: int) -> int:
    """Bytes of logits and their gradients without chunks: bfloat16, float32, and float32 again."""
    return (2 + 4 + 4) * config.vocab_size * tokens
