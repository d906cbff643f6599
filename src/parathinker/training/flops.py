"""How much a model has to compute for a batch: what speed and utilisation are measured against.

A product of an [n, k] and a [k, m] matrix is ``2 n k m`` operations; going backward takes twice as
many as forward, because both factors need a gradient, or as many where the weight is frozen (the
count of Kaplan et al., arXiv 2001.08361, and of PaLM's appendix B, arXiv 2204.02311, from whom the
name model FLOPs utilisation is). Attention is counted by the pairs of tokens that see each other,
not by the square of the sequence. What activation checkpointing computes again does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parathinker.graph import ThoughtGraph
from parathinker.modeling.config import DecoderConfig


@dataclass(frozen=True)
class Work:
    """What a batch consists of, as far as computing it goes."""

    tokens: int
    """Padding not counted."""
    pairs: int
    """Pairs of a token and one that it sees, itself included."""
    predicted: int
    """Tokens whose logits are needed."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.tokens + other.tokens, self.pairs + other.pairs, self.predicted + other.predicted
        )


NO_WORK = Work(0, 0, 0)


def graph_work(graph: ThoughtGraph, predicted: int) -> Work:
    """The work of one example."""
    pairs = 0
    for i, segment in enumerate(graph.segments):
        context = sum(graph.segments[j].length for j in graph.visible(i))
        pairs += segment.length * context + segment.length * (segment.length + 1) // 2
    return Work(graph.length, pairs, predicted)


def total_work(parts: Iterable[Work]) -> Work:
    """The work of many."""
    total = NO_WORK
    for part in parts:
        total += part
    return total


def layer_weights(config: DecoderConfig) -> int:
    """Entries of one layer's matrices."""
    heads = config.num_heads + 2 * config.num_kv_heads
    attention = config.hidden_size * config.head_dim * (heads + config.num_heads)
    return attention + 3 * config.hidden_size * config.intermediate_size


def training_flops(config: DecoderConfig, work: Work, frozen: bool = False) -> float:
    """Operations of one forward and backward pass.

    Args:
        frozen: the matrices are frozen, as under LoRA, whose own small matrices are not counted.
    """
    weights = 2.0 * config.num_layers * layer_weights(config) * work.tokens
    head = 2.0 * config.vocab_size * config.hidden_size * work.predicted
    # Scores and their product with the values: both 2 · head_dim operations a pair and head.
    attention = 4.0 * config.num_layers * config.num_heads * config.head_dim * work.pairs
    return (2.0 if frozen else 3.0) * (weights + head) + 3.0 * attention
