"""What computes one piece of structured attention, forward and backward, on each device.

Forward returns the output and the log-sum-exp of the scores that it normalised with. Backward is
given both *as merged over all pieces of a query* and returns this piece's share of the gradients;
``attention.py`` says why that is right.
"""

# Shapes: in a piece N runs, H heads, W queries and C keys of each, D head dim.

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor]


class Rectangle(NamedTuple):
    """Queries and the keys that they see: all of them, or causally the own ones."""

    q_NHWD: Tensor
    k_NHCD: Tensor
    v_NHCD: Tensor
    bias_N11C: Tensor | None
    """Added to the scores: -inf on padding."""
    causal: bool
    scale: float


class Kernel(Protocol):
    """One way of computing a rectangle."""

    @staticmethod
    def forward(piece: Rectangle) -> tuple[Tensor, Tensor, Any]:
        """Output [N, H, W, D], log-sum-exp [N, H, W], and what backward needs beside them."""

    @staticmethod
    def backward(piece: Rectangle, grad: Tensor, out: Tensor, lse: Tensor, extra: Any) -> Gradients:
        """Gradients of q, k and v from that of the output, and the merged output and lse."""


class CpuFlash:
    """PyTorch's flash attention on the CPU; float32 and float64."""

    @staticmethod
    def forward(piece: Rectangle) -> tuple[Tensor, Tensor, None]:
        q, k, v, bias, causal, scale = piece
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = attend(q, k, v, 0.0, causal, attn_mask=bias, scale=scale)
        return out, lse, None

    @staticmethod
    def backward(
        piece: Rectangle, grad: Tensor, out: Tensor, lse: Tensor, extra: None
    ) -> Gradients:
        q, k, v, bias, causal, scale = piece
        back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        dq, dk, dv = back(grad, q, k, v, out, lse, 0.0, causal, attn_mask=bias, scale=scale)
        return dq, dk, dv


class CudaFlash:
    """PyTorch's flash attention on CUDA; half precision, no padding. Not run, for want of a GPU."""

    @staticmethod
    def forward(piece: Rectangle) -> tuple[Tensor, Tensor, Any]:
        q, k, v, _, causal, scale = piece
        attend = torch.ops.aten._scaled_dot_product_flash_attention
        out, lse, *extra, _ = attend(q, k, v, 0.0, causal, False, scale=scale)
        return out, lse, extra

    @staticmethod
    def backward(piece: Rectangle, grad: Tensor, out: Tensor, lse: Tensor, extra: Any) -> Gradients:
        q, k, v, _, causal, scale = piece
        *sizes, seed, offset = extra
        back = torch.ops.aten._scaled_dot_product_flash_attention_backward
        lse = lse.contiguous()
        dq, dk, dv = back(grad, q, k, v, out, lse, *sizes, 0.0, causal, seed, offset, scale=scale)
        return dq, dk, dv


class Plain:
    """Matrix products, the whole rectangle's scores at once: any device and dtype."""

    @staticmethod
    def forward(piece: Rectangle) -> tuple[Tensor, Tensor, None]:
        scores = _scores(piece)
        lse = scores.logsumexp(-1)
        return (scores - lse[..., None]).exp().to(piece.v_NHCD.dtype) @ piece.v_NHCD, lse, None

    @staticmethod
    def backward(
        piece: Rectangle, grad: Tensor, out: Tensor, lse: Tensor, extra: None
    ) -> Gradients:
        q, k, v, *_, scale = piece
        p = (_scores(piece) - lse[..., None]).exp()
        d_p = (grad @ v.mT).to(p.dtype)
        d_scores = (p * (d_p - (grad * out).sum(-1, keepdim=True)) * scale).to(q.dtype)
        return d_scores @ k, d_scores.mT @ q, p.to(grad.dtype).mT @ grad


def _scores(piece: Rectangle) -> Tensor:
    """[N, H, W, C], float32 at least."""
    q, k, _, bias, causal, scale = piece
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if bias is not None:
        scores = scores + bias
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores


def choose_kernel(q: Tensor, padded: bool) -> tuple[type[Kernel], torch.dtype]:
    """The kernel for queries [..., D] like these, and the dtype it should be given.

    Args:
        padded: some piece has keys to leave out.
    """
    if q.device.type == "cpu":
        # The CPU's kernel goes backward several times faster in float32 than in bfloat16.
        return CpuFlash, torch.promote_types(q.dtype, torch.float32)
    half = q.dtype in (torch.float16, torch.bfloat16)
    if q.device.type == "cuda" and half and q.shape[-1] % 8 == 0 and not padded:
        return CudaFlash, q.dtype
    return Plain, q.dtype
