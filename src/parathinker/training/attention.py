"""Structured attention: the graph's visibility as a few rectangles instead of one S×S mask.

A packed row's layout (``layout.py``) lists *pieces*: queries that see all of some keys, and
segments that see themselves causally. A flash kernel (``kernels.py``) computes each piece without
a mask and says with which log-sum-exp it normalised; pieces of one query are merged by those.
Memory grows with S, not S×S. ``flex.py`` does the same job on CUDA.
"""

# Shapes: S columns of the row, H query heads, K kv heads, D head dim; in a piece N runs, W columns
# of each.

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parathinker.training.kernels import Rectangle, choose_kernel
from parathinker.training.layout import Block, Piece, RowLayout

NAME = "thought_graph"


def thought_graph_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    thought_layout: RowLayout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed row of thought graphs, as transformers calls it.

    Args:
        query: [1, H, S, D]; key and value: [1, K, S, D].
        thought_layout: the row's structure, handed to the model as a keyword.

    Returns:
        [1, S, H, D] and no weights.

    Raises:
        ValueError: no layout, a row of another length, more than one row, or attention dropout.
    """
    layout = check_call(NAME, query, dropout, thought_layout)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q_SHD, k_SKD, v_SKD = (x[0].transpose(0, 1) for x in (query, key, value))
    attend: Callable[..., Tensor] = _PieceAttention.apply
    out_SHD = attend(q_SHD, k_SKD, v_SKD, layout, scale)
    return out_SHD[None], None


def check_call(name: str, query: Tensor, dropout: float, layout: RowLayout | None) -> RowLayout:
    """Refuse what attention over a packed row cannot do.

    Raises:
        ValueError: no layout, a row of another length, more than one row, or attention dropout.
    """
    if layout is None:
        raise ValueError(f"attention {name!r} needs thought_layout= in the model's call")
    rows, columns = query.shape[0], query.shape[2]
    if rows != 1 or columns != layout.length:
        raise ValueError(
            f"attention {name!r} works on one packed row, here of {layout.length} tokens; "
            f"got {rows} of {columns}"
        )
    if dropout:
        raise ValueError(f"attention {name!r} has no dropout, {dropout} was asked for")
    return layout


class _PieceAttention(torch.autograd.Function):
    """All pieces of a row.

    For one query, let s_j be its scaled scores with the keys it sees in all pieces together,
    L = log Σ_j exp s_j and p_j = exp(s_j - L). A kernel that saw only piece A returns
    O_A = Σ_{j in A} exp(s_j - L_A) v_j, hence O = Σ_j p_j v_j = Σ_A exp(L_A - L) O_A, which is
    what forward merges. Backward, with dO given:

        dv_j = p_j dO        ds_j = p_j (dO·v_j - Σ_i p_i dO·v_i) = p_j (dO·v_j - dO·O)

    and dq = scale Σ_j ds_j k_j, dk_j = scale ds_j q. Of the other keys only L and O come in. A
    flash kernel's backward computes just these from the L and O it is given; given the *merged*
    ones, it returns its piece's exact share of every gradient, and shares add up.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: RowLayout, scale: float
    ) -> Tensor:
        work = _Work(q, k, v, layout, scale)
        out_SHD = work.q_SHD.new_empty(q.shape)
        lse_SH = out_SHD.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        ctx.extras = []
        with torch.autocast(q.device.type, enabled=False):
            for piece in layout.pieces:
                out, lse, extra = work.kernel.forward(work.rectangle(piece))
                ctx.extras.append(extra)
                total_out, total_lse = (_runs(x, piece.queries) for x in (out_SHD, lse_SH))
                if piece.causal:  # the first of these queries
                    total_out.copy_(out)
                    total_lse.copy_(lse)
                else:
                    _merge(total_out, total_lse, out, lse)
        returned = out_SHD.to(q.dtype)
        ctx.save_for_backward(q, k, v, returned, lse_SH)
        ctx.layout, ctx.scale = layout, scale
        return returned

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse_SH = ctx.saved_tensors
        work = _Work(q, k, v, ctx.layout, ctx.scale)
        out_SHD, grad_SHD = out.to(work.q_SHD.dtype), grad.to(work.q_SHD.dtype)
        totals = [work.q_SHD.new_empty(q.shape) for _ in range(3)]
        with torch.autocast(q.device.type, enabled=False):
            for piece, extra in zip(ctx.layout.pieces, ctx.extras, strict=True):
                d_out, out, lse = (_runs(x, piece.queries) for x in (grad_SHD, out_SHD, lse_SH))
                shares = work.kernel.backward(work.rectangle(piece), d_out, out, lse, extra)
                blocks = (piece.queries, piece.keys, piece.keys)
                for total, block, share in zip(totals, blocks, shares, strict=True):
                    if piece.causal:
                        _runs(total, block).copy_(share)
                    else:
                        _runs(total, block).add_(share)
        dq, dk, dv = totals
        if k.shape[1] != q.shape[1]:
            dk, dv = (x.unflatten(1, (k.shape[1], -1)).sum(2) for x in (dk, dv))
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


class _Work:
    """Queries, keys and values as kernels take them: one dtype, a key head for each query head."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, layout: RowLayout, scale: float) -> None:
        padded = any(piece.padded for piece in layout.pieces)
        self.kernel, dtype = choose_kernel(q, padded)
        self._scale = scale
        self._bias_S1 = _padding_bias(layout, q.device, dtype) if padded else None
        self.q_SHD, self._k_SHD, self._v_SHD = (
            _head_dim_inside(x.to(dtype).repeat_interleave(q.shape[1] // x.shape[1], dim=1))
            if x.shape[1] != q.shape[1]
            else _head_dim_inside(x.to(dtype))
            for x in (q, k, v)
        )

    def rectangle(self, piece: Piece) -> Rectangle:
        bias = None
        if piece.padded and self._bias_S1 is not None:
            bias = _runs(self._bias_S1, piece.keys)[:, :, None]
        k, v = (_runs(x, piece.keys) for x in (self._k_SHD, self._v_SHD))
        return Rectangle(_runs(self.q_SHD, piece.queries), k, v, bias, piece.causal, self._scale)


def _head_dim_inside(x_SHD: Tensor) -> Tensor:
    return x_SHD if x_SHD.stride(2) == 1 else x_SHD.contiguous()


def _runs(x_SH: Tensor, block: Block) -> Tensor:
    """A block's columns as a batch, without a copy: [S, H, ...] to [N, H, W, ...]."""
    column, head, *inside = x_SH.stride()
    return x_SH.as_strided(
        (block.count, x_SH.shape[1], block.width, *x_SH.shape[2:]),
        (block.stride * column, head, column, *inside),
        x_SH.storage_offset() + block.start * column,
    )


def _merge(out_NHWD: Tensor, lse_NHW: Tensor, more_NHWD: Tensor, more_lse_NHW: Tensor) -> None:
    """Merge another piece into what there is, in place."""
    both = torch.logaddexp(lse_NHW, more_lse_NHW)
    out_NHWD.mul_((lse_NHW - both).exp_()[..., None])
    out_NHWD.addcmul_(more_NHWD, (more_lse_NHW - both).exp_()[..., None])
    lse_NHW.copy_(both)


@lru_cache(maxsize=4)
def _padding_bias(layout: RowLayout, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[S, 1]: 0 on tokens, -inf on padding."""
    bias = torch.zeros(layout.length, 1, dtype=dtype)
    for span in layout.spans:
        bias[span.start + span.length : span.start + span.width] = -math.inf
    return bias.to(device)


def register() -> None:
    """Make ``thought_graph`` and ``thought_graph_flex`` known to transformers; safe to repeat."""
    from transformers import AttentionInterface

    from parathinker.training import flex

    AttentionInterface.register(NAME, thought_graph_attention)
    AttentionInterface.register(flex.NAME, flex.thought_graph_flex_attention)
