"""What a decode step has to read and compute at least."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parathinker.bench.machine import Limits
from parathinker.engine.kv_pool import bytes_per_token
from parathinker.modeling.config import DecoderConfig


@dataclass(frozen=True)
class Context:
    """What the rows of a step see: tokens of a prompt that all share, of a path of their own."""

    prompt: float
    path: float


def matrix_shapes(config: DecoderConfig) -> list[tuple[int, int]]:
    """Shapes [out, in] of all matrices that a step multiplies with, in order."""
    c, D = config, config.head_dim
    layer = [
        ((c.num_heads + 2 * c.num_kv_heads) * D, c.hidden_size),
        (c.hidden_size, c.num_heads * D),
        (2 * c.intermediate_size, c.hidden_size),
        (c.hidden_size, c.intermediate_size),
    ]
    return [*layer * c.num_layers, (c.vocab_size, c.hidden_size)]


class Roofline:
    """The least time of a step: everything read once, every product computed, nothing else."""

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, weights: str) -> None:
        self._config = config
        self._elements = sum(rows * columns for rows, columns in matrix_shapes(config))
        self.weight_bytes = self._elements * (1 if weights == "int8" else dtype.itemsize)
        self.kv_bytes_per_token = bytes_per_token(config, dtype)

    def seconds(self, limits: Limits, paths: int, context: Context) -> float:
        """Of a step of so many paths.

        The prompt's keys and values count once: the paths can share the reading.
        """
        read = self.weight_bytes
        kv = (context.prompt + paths * context.path) * self.kv_bytes_per_token
        c = self._config
        seen = paths * (context.prompt + context.path)
        attention = 4 * c.num_layers * c.num_heads * c.head_dim * seen
        return limits.seconds(read + kv, 2 * paths * self._elements + attention)
