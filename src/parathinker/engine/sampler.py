"""Vectorised sampling: temperature, top-k, top-p, min-p, bans; one uniform number a row decides.

The randomness of a row is a number in [0, 1) that its own path's generator gave, and the choice is
the inverse of the cumulative distribution, so what else is in the batch does not touch it.
"""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingRow:
    """How to sample one row."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    banned: tuple[int, ...]
    """Token ids that may not be chosen."""
    uniform: float
    """The row's randomness, in [0, 1); not used at temperature 0."""


def path_generator(seed: int, prompt: Sequence[int], thought_id: int) -> random.Random:
    """The generator of one path's uniforms; thought id 0 is the summary's.

    The prompt has a say so that different questions under one seed do not share their randomness:
    a measurement over many of them would then count one draw many times.
    """
    return random.Random(f"{seed}/{thought_id}/{list(prompt)}")


def sample(logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[int]:
    """Choose a token for each row of raw logits in float32."""
    banned = [(r, token) for r, row in enumerate(rows) for token in row.banned]
    if banned:
        at, tokens = torch.tensor(banned, device=logits_RV.device).T
        logits_RV = logits_RV.index_put((at, tokens), logits_RV.new_tensor(-torch.inf))
    chosen = logits_RV.argmax(-1)
    warm = [r for r, row in enumerate(rows) if row.temperature > 0]
    if warm:
        # Apple's GPUs have no float64.
        device = "cpu" if logits_RV.device.type == "mps" else logits_RV.device
        drawn = _draw(logits_RV[warm].to(device), [rows[r] for r in warm])
        chosen[warm] = drawn.to(chosen.device)
    return [int(token) for token in chosen.tolist()]


def _draw(logits_RV: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Inverse-CDF sampling of rows with a temperature above 0, in float64."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=logits_RV.device, dtype=torch.float64)[:, None]

    # Subtracting the maximum first keeps tiny temperatures finite.
    scaled_RV = (logits_RV - logits_RV.amax(-1, keepdim=True)).double()
    probs_RV = torch.softmax(scaled_RV / column([row.temperature for row in rows]), dim=-1)
    if any(row.min_p > 0 for row in rows):
        floor = probs_RV.amax(-1, keepdim=True) * column([row.min_p for row in rows])
        probs_RV = probs_RV.where(probs_RV >= floor, 0.0)
    if any(row.top_k > 0 or row.top_p < 1 for row in rows):
        sorted_RV, order_RV = probs_RV.sort(dim=-1, descending=True, stable=True)
        size = probs_RV.shape[-1]
        rank_V = torch.arange(size, device=logits_RV.device)[None]
        sorted_RV = sorted_RV.where(rank_V < column([row.top_k or size for row in rows]), 0.0)
        sorted_RV = sorted_RV / sorted_RV.sum(-1, keepdim=True)
        before_RV = sorted_RV.cumsum(-1) - sorted_RV
        # Rounding may lift the sum to 1 before the last token, which top_p = 1 keeps all the same.
        top_p = [row.top_p if row.top_p < 1 else torch.inf for row in rows]
        sorted_RV = sorted_RV.where(before_RV < column(top_p), 0.0)
        probs_RV = torch.zeros_like(probs_RV).scatter(-1, order_RV, sorted_RV)
    cumulative_RV = probs_RV.cumsum(-1)
    target_R1 = column([row.uniform for row in rows]) * cumulative_RV[:, -1:]
    # A uniform below 1 times the total stays below the total in float64, so what is found has mass.
    return torch.searchsorted(cumulative_RV, target_R1, right=True)[:, 0]


def token_logprobs(logits_RV: Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-softmax of the raw logits at each row's token."""
    index = torch.tensor(tokens, device=logits_RV.device)[:, None]
    picked = logits_RV.gather(-1, index)[:, 0] - logits_RV.logsumexp(-1)
    return [float(x) for x in picked.tolist()]
