"""A runner driven by hand: one plain causal text, without paths and without the engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from parathinker.bench.machine import synchronize
from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Read
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.runner import Runner
from parathinker.loading import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS


class FlatRun:
    """One text's way through a runner, in forwards as long as the engine's.

    Args:
        tokens: most tokens that the text may have.
    """

    def __init__(self, runner: Runner, tokens: int) -> None:
        self._runner = runner
        blocks = -(-tokens // BLOCK_TOKENS)
        self._pool = KVPool(runner.config, blocks, runner.device, runner.dtype)
        self._blocks = np.asarray(self._pool.take(blocks), np.int64)
        self._length = 0

    @classmethod
    def time(cls, runner: Runner, tokens: int) -> float:
        """Seconds of prefilling so many tokens."""
        run, chunk = cls(runner, tokens), chunk_tokens(runner)
        synchronize(runner.device)
        began = time.perf_counter()
        for first in range(0, tokens, chunk):
            last = min(first + chunk, tokens)
            run.feed([0] * (last - first), [last - first - 1] if last == tokens else [])
        synchronize(runner.device)
        return time.perf_counter() - began

    def feed(
        self,
        token_ids: Sequence[int],
        rows: Sequence[int],
        thought_ids: Sequence[int] | None = None,
    ) -> Tensor:
        """One forward over the text's next tokens; logits [R, V] of those at ``rows``."""
        count = len(token_ids)
        places = np.arange(self._length, self._length + count)
        self._length += count
        filled = self._blocks[: -(-self._length // BLOCK_TOKENS)]
        batch = ForwardBatch(
            np.asarray(token_ids, np.int64),
            # A text longer than the context begins anew there: its time is what is asked.
            places % self._runner.config.max_context,
            np.asarray(thought_ids if thought_ids is not None else [0] * count, np.int64),
            self._blocks[places // BLOCK_TOKENS] * BLOCK_TOKENS + places % BLOCK_TOKENS,
            (Read(0, count, filled, self._length, count > 1),),
            np.asarray(rows, np.int64),
        )
        return self._runner.forward(batch, self._pool)


def chunk_tokens(runner: Runner) -> int:
    """Tokens of the engine's forwards on that device."""
    return CPU_BATCH_TOKENS if runner.device.type == "cpu" else GPU_BATCH_TOKENS
