"""What a decode step has to read and compute at least, and how long its matrix products take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from parathinker.bench.machine import Limits, synchronize
from parathinker.engine.kv_pool import bytes_per_token
from parathinker.engine.runner import Runner, TorchRunner
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


class MatrixProducts:
    """Times a model's matrix products alone."""

    def __init__(self, runner: Runner) -> None:
        self._timer: Callable[[int], float] = _own_timer(runner) or _LinearTimer(runner)

    @staticmethod
    def is_own(runner: Runner) -> bool:
        """Whether what is timed is what the runner runs."""
        return _own_timer(runner) is not None or isinstance(runner, TorchRunner)

    def seconds(self, rows: int) -> float:
        """Of all products of one forward of so many rows."""
        return self._timer(rows)


def _own_timer(runner: Runner) -> Callable[[int], float] | None:
    """``matmul_seconds(rows)``, where a runner offers it."""
    timer: Callable[[int], float] | None = getattr(runner, "matmul_seconds", None)
    return timer


class _LinearTimer:
    """``F.linear`` on matrices of the model's shapes, as many of them."""

    def __init__(self, runner: Runner) -> None:
        self._device = runner.device
        self._weights = [
            torch.full(shape, 0.01, device=runner.device, dtype=runner.dtype)
            for shape in matrix_shapes(runner.config)
        ]

    @torch.inference_mode()
    def __call__(self, rows: int) -> float:
        widths = {weight.shape[1] for weight in self._weights}
        dtype = self._weights[0].dtype
        inputs = {w: torch.ones(rows, w, device=self._device, dtype=dtype) for w in widths}
        synchronize(self._device)
        began = time.perf_counter()
        for weight in self._weights:
            F.linear(inputs[weight.shape[1]], weight)
        synchronize(self._device)
        return time.perf_counter() - began
