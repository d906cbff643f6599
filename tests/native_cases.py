"""Small thought graphs run through a forward by hand, and the same by a dense mask.

A graph's segments are laid into blocks of a KV pool that holds NaN wherever nothing was written,
and grow by any number of tokens in any forwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Ints, Read
from parathinker.engine.native import library
from parathinker.modeling.checkpoint import DecoderWeights, load_weights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.decoder import Decoder

RandomModel = Callable[..., Path]
"""The fixture that writes a random model of some architecture."""

needs_library = pytest.mark.skipif(
    not library.available(), reason=library.missing_reason() or "available"
)


@dataclass
class PlainPool:
    """Only the memory of a KV pool."""

    keys_LBKDT: Tensor
    values_LBKTD: Tensor

    @classmethod
    def unwritten(cls, config: DecoderConfig, blocks: int) -> PlainPool:
        L, K, D, T = config.num_layers, config.num_kv_heads, config.head_dim, BLOCK_TOKENS
        return cls(
            torch.full((L, blocks, K, D, T), torch.nan), torch.full((L, blocks, K, T, D), torch.nan)
        )


Forward = Callable[[ForwardBatch, PlainPool], Tensor]


@dataclass(eq=False)
class Segment:
    ids: list[int]
    thought: int
    start: int
    parents: list[Segment] = field(default_factory=list)
    blocks: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    written: int = 0


class Graph:
    """A prompt, paths of various lengths under it, and a summary under all."""

    def __init__(
        self, config: DecoderConfig, prompt: int, paths: Sequence[int], summary: int, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)

        def ids(count: int) -> list[int]:
            return [int(i) for i in rng.integers(0, config.vocab_size, count)]

        self.prompt = Segment(ids(prompt), 0, 0)
        self.paths = [
            Segment(ids(count), i, prompt, [self.prompt]) for i, count in enumerate(paths, 1)
        ]
        longest = max(paths, default=0)
        self.summary = Segment(ids(summary), 0, prompt + longest, [self.prompt, *self.paths])
        self.segments = [self.prompt, *self.paths, self.summary]
        sizes = [-(-len(s.ids) // BLOCK_TOKENS) for s in self.segments]
        order = rng.permutation(sum(sizes))
        for segment, end, size in zip(self.segments, np.cumsum(sizes), sizes, strict=True):
            segment.blocks = order[end - size : end]
        self.pool = PlainPool.unwritten(config, sum(sizes))

    def grow(self, *growth: tuple[Segment, int], shared: bool = True) -> ForwardBatch:
        """The next tokens of some segments; siblings that stand together share their reads."""
        tokens: list[tuple[int, int, int, int]] = []
        parts: list[tuple[Segment, int, int]] = []
        for segment, count in growth:
            parts.append((segment, len(tokens), count))
            for at in range(segment.written, segment.written + count):
                slot = segment.blocks[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS
                place = segment.start + at
                tokens.append((segment.ids[at], place, segment.thought, int(slot)))
            segment.written += count
        reads: list[Read] = []
        if shared and all(segment in self.paths for segment, _ in growth):
            reads.append(self._read(self.prompt, 0, len(tokens), False))
        else:
            reads += [
                self._read(parent, first, count, False)
                for segment, first, count in parts
                for parent in segment.parents
            ]
        reads += [self._read(segment, first, count, True) for segment, first, count in parts]
        columns = (np.array(column, np.int64) for column in zip(*tokens, strict=True))
        return ForwardBatch(*columns, tuple(reads), np.arange(len(tokens)))

    def _read(self, segment: Segment, first: int, tokens: int, causal: bool) -> Read:
        used = -(-segment.written // BLOCK_TOKENS)
        return Read(first, tokens, segment.blocks[:used], segment.written, causal)

    def run(self, forward: Forward, prompt_chunk: int = 10**9) -> dict[str, Tensor]:
        """All logits: the prompt by chunks, the paths token by token, the summary in one go."""
        prompt = []
        while self.prompt.written < len(self.prompt.ids):
            count = min(prompt_chunk, len(self.prompt.ids) - self.prompt.written)
            prompt.append(forward(self.grow((self.prompt, count)), self.pool))
        results = {"prompt": torch.cat(prompt)}
        results |= {f"path {i}": rows for i, rows in enumerate(self.run_paths(forward))}
        if self.summary.ids:
            batch = self.grow((self.summary, len(self.summary.ids)))
            results["summary"] = forward(batch, self.pool)
        return results

    def run_paths(self, forward: Forward) -> list[Tensor]:
        """Each path's logits, token by token side by side."""
        rows: list[list[Tensor]] = [[] for _ in self.paths]
        while growing := [i for i, p in enumerate(self.paths) if p.written < len(p.ids)]:
            logits = forward(self.grow(*((self.paths[i], 1) for i in growing)), self.pool)
            for i, row in zip(growing, logits, strict=True):
                rows[i].append(row)
        return [torch.stack(path) for path in rows]

    def dense(self, decoder: Decoder) -> dict[str, Tensor]:
        """The same by one forward with a dense mask."""
        flat = [(s, i) for s in self.segments for i in range(len(s.ids))]
        mask = torch.tensor(
            [[a in s.parents or (a is s and j <= i) for a, j in flat] for s, i in flat]
        )
        inputs = (
            torch.tensor(column)
            for column in zip(*((s.ids[i], s.start + i, s.thought) for s, i in flat), strict=True)
        )
        with torch.inference_mode():
            logits = decoder.forward(*inputs, DenseAttention(mask), torch.arange(len(flat)))
        names = ["prompt", *(f"path {i}" for i in range(len(self.paths))), "summary"]
        parts = logits.split([len(s.ids) for s in self.segments])
        return {name: part for name, part in zip(names, parts, strict=True) if len(part)}


class DenseAttention:
    """Every query's scores of all keys, and a mask."""

    def __init__(self, mask_NN: Tensor) -> None:
        self._mask_NN = mask_NN

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        shared = q_NHD.shape[1] // k_NKD.shape[1]
        k_NHD, v_NHD = (x.repeat_interleave(shared, 1) for x in (k_NKD, v_NKD))
        scores_HNM = torch.einsum("nhd,mhd->hnm", q_NHD, k_NHD) * q_NHD.shape[-1] ** -0.5
        scores_HNM = scores_HNM.masked_fill(~self._mask_NN, -torch.inf)
        return torch.einsum("hnm,mhd->nhd", scores_HNM.softmax(-1), v_NHD)


def read_model(folder: Path) -> tuple[DecoderConfig, DecoderWeights]:
    """A saved model in float32."""
    config = DecoderConfig.from_folder(folder)
    return config, load_weights(folder, config, torch.device("cpu"), torch.float32)


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of any logprob."""
    assert a.keys() == b.keys()
    return max(float((a[name].log_softmax(-1) - b[name].log_softmax(-1)).abs().max()) for name in a)
