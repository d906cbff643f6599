"""Attention over segments: each part of what a query sees is read where it lies, then merged.

A forward carries tokens of several *strands*: sibling segments, of one request, that grow in this
step. Queries of a strand read every ancestor cache once, all siblings' queries together, and their
own segments; the parts are merged by their log-sum-exp (as in FlashAttention, arXiv 2205.14135),
which equals one softmax over all keys. No key is copied, padded or computed again.
"""

# Shapes: N tokens of a strand, M members, T tokens a member in this step, H query heads, K kv
# heads, G query heads a kv head, Q queries, S keys, P parts, D head dim.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parathinker.engine.kv_cache import SiblingCache


@dataclass(frozen=True)
class Strand:
    """Sibling segments that grow by the same number of tokens in one forward.

    Their tokens stand member by member in the forward's input; members are the first
    ``members`` of ``cache``.
    """

    cache: SiblingCache
    members: int
    tokens: int
    """New tokens of each member."""
    context: Sequence[SiblingCache]
    """Caches of all ancestors; every member of them is read in full."""


class SegmentAttention:
    """The attention of one forward over ``strands``, whose tokens stand in this order.

    Lengths of the caches are taken at construction and grow there by the new tokens, so strands
    of one forward see each other's new tokens where the graph says so.
    """

    def __init__(self, strands: Sequence[Strand], device: torch.device, dtype: torch.dtype) -> None:
        self._sizes = [s.members * s.tokens for s in strands]
        writes = []
        for strand in strands:
            before = strand.cache.lengths[: strand.members]
            slots = [b + t for b in before for t in range(strand.tokens)]
            owners = [m for m in range(strand.members) for _ in range(strand.tokens)]
            strand.cache.reserve(max(slots) + 1)
            for member in range(strand.members):
                strand.cache.lengths[member] += strand.tokens
            writes.append((torch.tensor(owners, device=device), torch.tensor(slots, device=device)))
        self._work = [
            _StrandWork(strand, *write, device, dtype)
            for strand, write in zip(strands, writes, strict=True)
        ]

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Write all new keys of a layer, then read: output [N, H, D]."""
        for work, k, v in zip(
            self._work,
            torch.split(k_NKD, self._sizes),
            torch.split(v_NKD, self._sizes),
            strict=True,
        ):
            work.write(layer, k, v)
        outs = [
            work.read(layer, q)
            for work, q in zip(self._work, torch.split(q_NHD, self._sizes), strict=True)
        ]
        return outs[0] if len(outs) == 1 else torch.cat(outs)


class _StrandWork:
    """What is the same in every layer for one strand: indices, lengths, masks."""

    def __init__(
        self,
        strand: Strand,
        owners_N: Tensor,
        slots_N: Tensor,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._strand, self._owners_N, self._slots_N = strand, owners_N, slots_N
        self._contexts = [
            (cache, max(cache.lengths), _length_mask(cache.lengths, device, dtype))
            for cache in strand.context
        ]
        lengths = strand.cache.lengths[: strand.members]
        self._own_length = max(lengths)
        # A segment that begins in this forward is plainly causal and needs no mask.
        self._own_causal = strand.tokens > 1 and min(lengths) == max(lengths) == strand.tokens
        if strand.tokens == 1:
            self._own_mask = _length_mask(lengths, device, dtype)
        elif not self._own_causal:
            self._own_mask = _causal_mask(lengths, strand.tokens, device, dtype)
        else:
            self._own_mask = None

    def write(self, layer: int, k_NKD: Tensor, v_NKD: Tensor) -> None:
        self._strand.cache.write(layer, self._owners_N, self._slots_N, k_NKD, v_NKD)

    def read(self, layer: int, q_NHD: Tensor) -> Tensor:
        M, T, K = self._strand.members, self._strand.tokens, self._strand.cache.kv_heads
        N, H, D = q_NHD.shape
        G = H // K
        q_MTKGD = q_NHD.view(M, T, K, G, D)
        own_MTKGD, own_lse_MTKG = self._read_own(layer, q_MTKGD)
        own_NHD = own_MTKGD.reshape(N, H, D)
        if not self._contexts:
            return own_NHD
        # Every member reads the same context: their queries go through as one.
        q_1KQD = q_MTKGD.permute(2, 0, 1, 3, 4).reshape(1, K, N * G, D)
        outs, sums = [], []
        for cache, length, mask in self._contexts:
            k, v = cache.read(layer, cache.members, length)
            out, lse = attend(q_1KQD.expand(cache.members, -1, -1, -1), k, v, mask)
            outs.append(out)
            sums.append(lse)
        out_PKQD, lse_PKQ = torch.cat(outs), torch.cat(sums)
        out_PNHD = out_PKQD.view(-1, K, N, G, D).permute(0, 2, 1, 3, 4).reshape(-1, N, H, D)
        lse_PNH = lse_PKQ.view(-1, K, N, G).permute(0, 2, 1, 3).reshape(-1, N, H)
        own_lse_1NH = own_lse_MTKG.reshape(1, N, H)
        weights_PNH = torch.softmax(torch.cat([lse_PNH, own_lse_1NH]), dim=0).to(q_NHD.dtype)
        parts_PNHD = torch.cat([out_PNHD, own_NHD[None]])
        return (parts_PNHD * weights_PNH[..., None]).sum(0)

    def _read_own(self, layer: int, q_MTKGD: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of each member to its own segment, causally: [M, T, K, G, D], [M, T, K, G]."""
        M, T, K, G, D = q_MTKGD.shape
        k_MKSD, v_MKSD = self._strand.cache.read(layer, M, self._own_length)
        mask = self._own_mask
        if T == 1:
            q_MKGD = q_MTKGD[:, 0]
            out_MKGD, lse_MKG = attend(q_MKGD, k_MKSD, v_MKSD, mask)
            return out_MKGD[:, None], lse_MKG[:, None]
        # Query heads of a kv head stand as heads here, so that one causal mask fits all.
        q_BGTD = q_MTKGD.permute(0, 2, 3, 1, 4).reshape(M * K, G, T, D)
        k_BGSD, v_BGSD = (x.flatten(0, 1)[:, None].expand(-1, G, -1, -1) for x in (k_MKSD, v_MKSD))
        if mask is not None:
            mask = mask.expand(-1, K, -1, -1).flatten(0, 1)[:, None]
        out_BGTD, lse_BGT = attend(q_BGTD, k_BGSD, v_BGSD, mask, self._own_causal)
        return (
            out_BGTD.view(M, K, G, T, D).permute(0, 3, 1, 2, 4),
            lse_BGT.view(M, K, G, T).permute(0, 3, 1, 2),
        )


def attend(
    q_BKQD: Tensor,
    k_BKSD: Tensor,
    v_BKSD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention and the log-sum-exp of its scores.

    Args:
        mask: added to the scores; broadcasts to [B, K, Q, S].
        causal: query i sees keys 0 to i; in place of a mask.

    Returns:
        Output [B, K, Q, D] and log-sum-exp [B, K, Q] in float32.
    """
    on_cpu = q_BKQD.device.type == "cpu"
    return (attend_on_cpu if on_cpu else attend_anywhere)(q_BKQD, k_BKSD, v_BKSD, mask, causal)


def attend_on_cpu(
    q_BKQD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """:func:`attend` by PyTorch's flash kernel for CPUs, which never writes the scores out."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q_BKQD, k_BKSD, v_BKSD, 0.0, causal, attn_mask=mask, scale=q_BKQD.shape[-1] ** -0.5
    )
    return out, lse


def attend_anywhere(
    q_BKQD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """:func:`attend` by matrix products, on any device."""
    scores = torch.matmul(q_BKQD, k_BKSD.transpose(-1, -2)).float() * q_BKQD.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask.float()
    if causal:
        hidden_QS = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden_QS, -torch.inf)
    lse = scores.logsumexp(-1)
    weights = torch.exp(scores - lse[..., None]).to(v_BKSD.dtype)
    return torch.matmul(weights, v_BKSD), lse


def _length_mask(lengths: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Hide what lies behind each member's end: [M, 1, 1, longest]; None if all are equally long."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    ends = torch.tensor(lengths, device=device)[:, None]
    hidden = torch.arange(longest, device=device)[None] >= ends
    mask = torch.zeros(hidden.shape, device=device, dtype=dtype)
    return mask.masked_fill(hidden, -torch.inf)[:, None, None]


def _causal_mask(
    lengths: Sequence[int], tokens: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Causality among the last ``tokens`` of each member: [M, 1, tokens, longest]."""
    longest = max(lengths)
    first = torch.tensor(lengths, device=device)[:, None] - tokens
    ends = first + torch.arange(tokens, device=device)[None] + 1
    hidden = torch.arange(longest, device=device)[None, None] >= ends[..., None]
    mask = torch.zeros(hidden.shape, device=device, dtype=dtype)
    return mask.masked_fill(hidden, -torch.inf)[:, None]
