"""KV memory: blocks of a few tokens in one pool, taken by segments, shared where contents agree.

A block is free, in use by one or more segments, or kept: nobody uses it, but its contents have a
name (a digest of all tokens it follows from), so a later request that begins alike finds it. Kept
blocks are given away, least recently used first, when no free ones are left, or when the machine is
short of memory for new ones.
"""

# Shapes: L layers, B blocks, K kv heads, D head dim, T tokens of a block.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.modeling.config import DecoderConfig


@dataclass(frozen=True)
class KVUsage:
    """KV memory at a moment, in bytes unless it says otherwise."""

    capacity: int
    in_use: int
    """Blocks of running requests; one that several requests share counts once."""
    kept: int
    """Blocks kept for prompts that begin alike; given away when memory is asked for."""
    live_tokens: int
    """Tokens of running requests that are in memory; shared ones count once."""
    bytes_per_token: int


LOOK_EVERY = 2**26
"""Bytes that are taken between two looks at how much memory the machine has left."""


class KVPool:
    """All KV memory of an engine.

    Args:
        is_short: whether the machine has so little memory left that kept blocks are better given
            away than others used for the first time.
    """

    def __init__(
        self,
        config: DecoderConfig,
        blocks: int,
        device: torch.device,
        dtype: torch.dtype,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        L, K, D, T = config.num_layers, config.num_kv_heads, config.head_dim, BLOCK_TOKENS
        # Keys stand with tokens innermost: scores of a block are then plain multiples and sums.
        self.keys_LBKDT = _zeros((L, blocks, K, D, T), device, dtype)
        self.values_LBKTD = _zeros((L, blocks, K, T, D), device, dtype)
        self.blocks = blocks
        self.bytes_per_token = bytes_per_token(config, dtype)
        self._untouched = 0
        """Blocks from here on were never used; memory for them was not even committed."""
        self._is_short, self._short = is_short, False
        self._looks = max(1, LOOK_EVERY // (self.bytes_per_token * T))
        """Blocks taken between two looks at the machine's memory."""
        self._until_look = self._looks
        self._free: list[int] = []
        self._users: dict[int, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._name_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._doubtful: set[int] = set()
        """Blocks that may hold NaN."""

    @property
    def available(self) -> int:
        """Blocks that can be taken now, kept ones among them."""
        return self.blocks - len(self._users)

    def take(self, count: int) -> list[int] | None:
        """Blocks for one user; None, and nothing taken, if there are not so many."""
        if count > self.available:
            return None
        return [self._take_one() for _ in range(count)]

    def _take_one(self) -> int:
        if self._free:
            block = self._free.pop()
        elif self._untouched < self.blocks and not (self._kept and self._should_save()):
            block, self._untouched = self._untouched, self._untouched + 1
        else:
            block, _ = self._kept.popitem(last=False)
            del self._block_of[self._name_of.pop(block)]
        if block in self._doubtful:
            # Attention multiplies what lies behind a segment's end by zero.
            self._doubtful.remove(block)
            self.keys_LBKDT[:, block] = 0
            self.values_LBKTD[:, block] = 0
        self._users[block] = 1
        return block

    def _should_save(self) -> bool:
        self._until_look -= 1
        if not self._until_look:
            self._until_look, self._short = self._looks, self._is_short()
        return self._short

    def find(self, name: bytes) -> int | None:
        """The block of that name, now one user richer; None if there is none."""
        block = self._block_of.get(name)
        if block is not None:
            self._kept.pop(block, None)
            self._users[block] = self._users.get(block, 0) + 1
        return block

    def publish(self, block: int, name: bytes) -> None:
        """Name the contents of a block in use, which then must not change any more."""
        if name not in self._block_of and block not in self._name_of:
            self._block_of[name] = block
            self._name_of[block] = name

    def release(
        self, blocks: Iterable[int], *, discard: bool = False, doubtful: bool = False
    ) -> None:
        """One user fewer for each; a block that nobody uses is kept if it has a name.

        Args:
            discard: their contents are worthless, perhaps NaN: forget names.
            doubtful: nobody has seen yet that their contents are finite.
        """
        # Later blocks of a segment are of no use without the earlier ones, so they go first.
        for block in reversed(list(blocks)):
            if discard and block in self._name_of:
                del self._block_of[self._name_of.pop(block)]
            if discard or doubtful:
                self._doubtful.add(block)
            self._users[block] -= 1
            if self._users[block]:
                continue
            del self._users[block]
            if block in self._name_of:
                self._kept[block] = None
            else:
                self._free.append(block)

    def forget(self) -> None:
        """Drop all kept blocks."""
        for block in self._kept:
            del self._block_of[self._name_of.pop(block)]
        self._free.extend(self._kept)
        self._kept.clear()

    def usage(self, live_tokens: int) -> KVUsage:
        """Memory now; the pool does not know how full its blocks are, so the caller says."""
        block = self.bytes_per_token * BLOCK_TOKENS
        return KVUsage(
            self.blocks * block,
            len(self._users) * block,
            len(self._kept) * block,
            live_tokens,
            self.bytes_per_token,
        )


def bytes_per_token(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Bytes of a token's keys and values in all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros; on the CPU, memory that is committed only where it is first written."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).view(shape)
