"""Attention over segments in PyTorch: each part of what a query sees is read, then merged.

A token's reads (see ``batch.py``) are computed apart and merged by their log-sum-exp (as in
FlashAttention, arXiv 2205.14135), which equals one softmax over all keys. A prompt's keys are read
once for all paths that hang under it.
"""

# Shapes: N tokens, H query heads, K kv heads, G query heads a kv head, D head dim, T tokens of a
# block, B blocks, U members of a batch of reads, Q queries of one, S keys of one, E entries
# (a token's share in a read).

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Read
from parathinker.engine.kv_pool import KVPool


@dataclass(frozen=True)
class _Group:
    """Reads by equally many tokens, padded to the longest and worked off as one batch."""

    tokens_UQ: Tensor
    """Which tokens read."""
    blocks_UB: Tensor
    visible_UQS: Tensor


class SegmentAttention:
    """The attention of one forward: writes all new keys of a layer, then reads."""

    def __init__(self, batch: ForwardBatch, pool: KVPool) -> None:
        device = pool.keys_LBKDT.device
        self._pool = pool
        slots_N = torch.from_numpy(batch.slots_N).to(device)
        self._block_N, self._place_N = slots_N // BLOCK_TOKENS, slots_N % BLOCK_TOKENS
        self._groups = [_group(reads, device) for reads in _alike(batch.reads)]
        self._entries_E = torch.cat([group.tokens_UQ.flatten() for group in self._groups])

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Output [N, H, D] of one layer."""
        keys_BKDT = self._pool.keys_LBKDT[layer]
        values_BKTD = self._pool.values_LBKTD[layer]
        keys_BKDT[self._block_N, :, :, self._place_N] = k_NKD
        values_BKTD[self._block_N, :, self._place_N] = v_NKD
        outs, sums = [], []
        for group in self._groups:
            out_UQHD, lse_UQH = _read(group, q_NHD, keys_BKDT, values_BKTD)
            outs.append(out_UQHD.flatten(0, 1))
            sums.append(lse_UQH.flatten(0, 1))
        out_EHD, lse_EH = torch.cat(outs), torch.cat(sums)
        index_EH = self._entries_E[:, None].expand_as(lse_EH)
        most_NH = lse_EH.new_full(q_NHD.shape[:2], -torch.inf)
        most_NH = most_NH.scatter_reduce(0, index_EH, lse_EH, "amax")
        weight_EH = torch.exp(lse_EH - most_NH[self._entries_E])
        total_NH = torch.zeros_like(most_NH).index_add(0, self._entries_E, weight_EH)
        summed_NHD = out_EHD.new_zeros(q_NHD.shape)
        summed_NHD = summed_NHD.index_add(0, self._entries_E, out_EHD * weight_EH[..., None])
        return (summed_NHD / total_NH[..., None]).to(q_NHD.dtype)


def _alike(reads: Sequence[Read]) -> list[list[Read]]:
    """Reads sorted into batches: as many tokens each, and lengths within a factor of two."""
    batches: dict[tuple[int, int], list[Read]] = {}
    for read in reads:
        batches.setdefault((read.tokens, len(read.blocks).bit_length()), []).append(read)
    return list(batches.values())


def _group(reads: Sequence[Read], device: torch.device) -> _Group:
    most = max(len(read.blocks) for read in reads)
    tokens = reads[0].tokens
    # Padding is read at weight zero, which leaves no trace as long as it is finite; so it must not
    # lie in other requests' blocks.
    blocks_UB = np.stack(
        [np.pad(read.blocks, (0, most - len(read.blocks)), mode="edge") for read in reads]
    )
    first_U1 = np.array([[read.first] for read in reads])
    keys_U1 = np.array([[read.keys] for read in reads])
    causal_U1 = np.array([[read.causal] for read in reads])
    offset_Q = np.arange(tokens)
    ends_UQ = keys_U1 - causal_U1 * (tokens - 1 - offset_Q)
    visible_UQS = np.arange(most * BLOCK_TOKENS) < ends_UQ[..., None]
    return _Group(
        *(torch.from_numpy(x).to(device) for x in (first_U1 + offset_Q, blocks_UB, visible_UQS))
    )


def _read(
    group: _Group, q_NHD: Tensor, keys_BKDT: Tensor, values_BKTD: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of a group's queries to its keys: [U, Q, H, D] and log-sum-exp [U, Q, H] (fp32)."""
    U, Q = group.tokens_UQ.shape
    K, D = keys_BKDT.shape[1:3]
    H = q_NHD.shape[1]
    G = H // K
    k_UKDS = keys_BKDT[group.blocks_UB].permute(0, 2, 3, 1, 4).flatten(3)
    v_UKSD = values_BKTD[group.blocks_UB].permute(0, 2, 1, 3, 4).flatten(2, 3)
    q_UKQGD = q_NHD[group.tokens_UQ].view(U, Q, K, G, D).permute(0, 2, 1, 3, 4)
    scores_UKQGS = (q_UKQGD.flatten(2, 3) @ k_UKDS).float().view(U, K, Q, G, -1) * D**-0.5
    hidden_U1Q1S = ~group.visible_UQS[:, None, :, None]
    scores_UKQGS = scores_UKQGS.masked_fill(hidden_U1Q1S, -torch.inf)
    lse_UKQG = scores_UKQGS.logsumexp(-1)
    weights_UKQGS = torch.exp(scores_UKQGS - lse_UKQG[..., None]).to(v_UKSD.dtype)
    out_UKQGD = (weights_UKQGS.flatten(2, 3) @ v_UKSD).float().view(U, K, Q, G, D)
    return (
        out_UKQGD.permute(0, 2, 1, 3, 4).reshape(U, Q, H, D),
        lse_UKQG.permute(0, 2, 1, 3).reshape(U, Q, H),
    )
