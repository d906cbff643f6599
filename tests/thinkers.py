"""Models under test: small engines of either kind, and what answers are compared by."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parathinker import Answer, ParaThinker
from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.native import library
from parathinker.engine.sampler import Sampled, SamplingRow
from reference import largest_difference, reference_logprobs, reference_model, segments_of

TOLERANCE = 1e-4
ENGINES = ("torch", "native") if library.available() else ("torch",)
RANDOM_MODELS_TOKEN_BYTES = 512
"""Keys and values of a token of the random models: 2 layers, 2 kv heads of 16, float32."""

reference = cache(reference_model)


def thinker(
    folder: Path | str,
    engine: str = ENGINES[-1],
    *,
    kv_tokens: int | None = None,
    **options: Any,
) -> ParaThinker:
    """A model on one of the engines, with memory for so many tokens of a random model."""
    before = os.environ.get(library.SWITCH)
    if engine == "torch":
        os.environ[library.SWITCH] = "0"
    if kv_tokens is not None:
        options["kv_cache_memory"] = kv_tokens * RANDOM_MODELS_TOKEN_BYTES
    try:
        return ParaThinker.from_pretrained(folder, threads=1, **options)
    finally:
        os.environ.pop(library.SWITCH, None)
        if before is not None:
            os.environ[library.SWITCH] = before


@cache
def shared(folder: Path | str, engine: str = ENGINES[-1]) -> ParaThinker:
    """One such model for all tests that leave it as it is."""
    return thinker(folder, engine)


def distance(folder: Path, answer: Answer, **broken: Any) -> float:
    """Largest difference of any logprob to the reference, which ``broken`` can spoil."""
    return largest_difference(answer, reference_logprobs(reference(folder), answer, **broken))


def written(answer: Answer) -> list[tuple[list[int], str]]:
    """All that was written and how it ended: equal for equal answers."""
    return [(segment.token_ids, segment.finish_reason) for segment in segments_of(answer)]


def assert_same(answer: Answer, other: Answer, engine: str = "torch") -> None:
    """Equal tokens; equal logprobs, to the last bit on an engine that promises it."""
    assert written(answer) == written(other)
    for mine, theirs in zip(segments_of(answer), segments_of(other), strict=True):
        if engine == "native":
            assert mine.logprobs == theirs.logprobs
        else:
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=TOLERANCE)


@contextmanager
def no_leak(model: ParaThinker) -> Iterator[None]:
    """When the block ends, nothing is in use, and prompts can be forgotten without a rest."""
    yield
    load = model.load()
    assert (load.running, load.waiting) == (0, 0)
    assert (load.kv.in_use, load.kv.live_tokens) == (0, 0)
    model.forget_prefixes()
    assert model.load().kv.kept == 0
    # A block that got lost would count as free in neither way.
    pool = model._engine._pool
    free = sorted([*pool._free, *range(pool._untouched, pool.blocks)])
    assert free == list(range(pool.blocks))
    assert not pool._users
    assert not pool._block_of
    assert not pool._name_of


class Faulty:
    """Stands before a model's runner and makes things go wrong where a test wants it.

    Args:
        model: from now on runs through this.
    """

    POISON = "\a"
    """A character whose keys and values become NaN, while ``poisoning``."""
    UNSOUND_TOP_K = 7_654
    """Logits become NaN for requests with this top_k, once they have begun."""

    def __init__(self, model: ParaThinker) -> None:
        self._engine = model._engine
        self._runner, model._engine._runner = model._engine._runner, self
        self._poison = model._codec.encode_text(self.POISON)
        self.before_forward: Callable[[], None] = lambda: None
        self.forwards = self.tokens = 0
        self.poisoning = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def remove(self) -> None:
        """All is well again."""
        self._engine._runner = self._runner

    def forward(self, batch: ForwardBatch, pool: KVPool) -> Tensor:
        self.forwards += 1
        self.tokens += len(batch.token_ids_N)
        self.before_forward()
        logits_RV = self._runner.forward(batch, pool)
        poisoned_N = np.isin(batch.token_ids_N, self._poison) & self.poisoning
        for slot in batch.slots_N[poisoned_N].tolist():
            pool.keys_LBKDT[:, slot // BLOCK_TOKENS, :, :, slot % BLOCK_TOKENS] = torch.nan
            pool.values_LBKTD[:, slot // BLOCK_TOKENS, :, slot % BLOCK_TOKENS] = torch.nan
        return logits_RV

    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
        unsound = [r for r, row in enumerate(rows) if row.top_k == self.UNSOUND_TOP_K]
        if unsound:
            logits_RV = logits_RV.clone()
            logits_RV[unsound] = torch.nan
        return self._runner.sample(logits_RV, rows)
