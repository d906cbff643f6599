"""KV cache of sibling segments: one store for all of them, read where they lie.

Siblings (the paths under one prompt, or a prompt or summary alone) share one block of memory, so
queries can read all of them at once as a batch, whatever their lengths.
"""

# Shapes: L layers, M members, K kv heads, C capacity in tokens, D head dim, N new tokens.

from __future__ import annotations

import torch
from torch import Tensor

from parathinker.modeling.config import DecoderConfig

_FIRST_CAPACITY = 64


class SiblingCache:
    """Keys and values of ``members`` siblings; ``lengths[m]`` tokens of each are written."""

    def __init__(
        self,
        config: DecoderConfig,
        members: int,
        device: torch.device,
        dtype: torch.dtype,
        capacity: int = _FIRST_CAPACITY,
    ) -> None:
        self.lengths = [0] * members
        self.kv_heads = config.num_kv_heads
        shape = (config.num_layers, members, config.num_kv_heads, capacity, config.head_dim)
        # Zeros, because attention reads what lies behind a shorter sibling's end, at weight zero,
        # and zero times whatever the memory held before may be NaN.
        self._keys_LMKCD = torch.zeros(shape, device=device, dtype=dtype)
        self._values_LMKCD = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def members(self) -> int:
        """How many segments lie here."""
        return len(self.lengths)

    def reserve(self, length: int) -> None:
        """Make room for segments of up to ``length`` tokens; doubles, so growing stays linear."""
        capacity = self._keys_LMKCD.shape[3]
        if length <= capacity:
            return
        while capacity < length:
            capacity *= 2
        used = max(self.lengths)
        for name in ("_keys_LMKCD", "_values_LMKCD"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros((*old.shape[:3], capacity, old.shape[4]))
            new[:, :, :, :used] = old[:, :, :, :used]
            setattr(self, name, new)

    def write(
        self, layer: int, members_N: Tensor, slots_N: Tensor, k_NKD: Tensor, v_NKD: Tensor
    ) -> None:
        """Store new tokens of one layer, each at its member's slot (its index in the segment)."""
        self._keys_LMKCD[layer][members_N, :, slots_N] = k_NKD
        self._values_LMKCD[layer][members_N, :, slots_N] = v_NKD

    def read(self, layer: int, members: int, length: int) -> tuple[Tensor, Tensor]:
        """Views [members, K, length, D] on the first members; nothing is copied."""
        return (
            self._keys_LMKCD[layer, :members, :, :length],
            self._values_LMKCD[layer, :members, :, :length],
        )

    def swap(self, a: int, b: int) -> None:
        """Exchange two members, so that those still growing can lie in front."""
        if a == b:
            return
        used = max(self.lengths[a], self.lengths[b])
        for tensor in (self._keys_LMKCD, self._values_LMKCD):
            kept = tensor[:, a, :, :used].clone()
            tensor[:, a, :, :used] = tensor[:, b, :, :used]
            tensor[:, b, :, :used] = kept
        self.lengths[a], self.lengths[b] = self.lengths[b], self.lengths[a]
