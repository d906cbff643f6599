"""Vectorised sampling: penalties, bans, temperature, top-k, top-p, min-p; one uniform number a row
decides.

The randomness of a row is a number in [0, 1) that its own path's generator gave, and the choice is
the inverse of the cumulative distribution, so what else is in the batch does not touch it.
"""

# Shapes: R rows, V vocabulary, W rows with a temperature above 0, C candidates, N edited tokens.

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parathinker.engine.batch import Ints

_CANDIDATES = 1024
"""Top-p is tried on so many likeliest tokens before the whole vocabulary is sorted."""


@dataclass(frozen=True)
class LogitEdits:
    """Changes to single tokens' logits, made before anything else; each token at most once."""

    tokens_N: Ints
    divide_N: NDArray[np.float32]
    """Positive logits are divided by it, negative ones multiplied (CTRL, arXiv 1909.05858)."""
    subtract_N: NDArray[np.float32]
    """Taken off after that; infinity bans the token."""

    @classmethod
    def ban(cls, tokens: Sequence[int]) -> LogitEdits:
        """Tokens that may not be chosen."""
        n = len(tokens)
        return cls(
            np.asarray(tokens, np.int64), np.ones(n, np.float32), np.full(n, np.inf, np.float32)
        )


@dataclass(frozen=True)
class SamplingRow:
    """How to sample one row."""

    temperature: float
    top_k: int
    """0 is no limit."""
    top_p: float
    min_p: float
    uniform: float
    """The row's randomness, in [0, 1); not used at temperature 0."""
    edits: LogitEdits


@dataclass(frozen=True)
class Sampled:
    """What was chosen for a row."""

    token: int
    logprob: float
    """Log-softmax of the raw logits, before any edit or temperature."""
    sound: bool
    """False where the raw logits hold NaN or positive infinity; the token then means nothing."""
    likeliest: tuple[tuple[int, float], ...] = ()
    """Token ids and log-probabilities under the raw logits, where they were asked for."""


def path_seed(seed: int, prompt: Sequence[int], label: str) -> str:
    """What the generator of one path's uniforms is seeded with.

    The prompt has a say so that different questions under one seed do not share their randomness:
    a measurement over many of them would then count one draw many times.
    """
    return f"{seed}/{label}/{list(prompt)}"


def path_generator(seed: int, prompt: Sequence[int], label: str) -> random.Random:
    """The generator of one path's uniforms."""
    return random.Random(path_seed(seed, prompt, label))


def sample(logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
    """Choose a token for each row of raw logits in float32; the rows are left as they are."""
    lse_R, chosen_R = logits_RV.logsumexp(-1), choose(logits_RV, rows)
    logprobs_R = logits_RV.gather(-1, chosen_R[:, None])[:, 0] - lse_R
    return [
        Sampled(int(token), float(logprob), bool(sound))
        for token, logprob, sound in zip(
            chosen_R.tolist(), logprobs_R.tolist(), lse_R.isfinite().tolist(), strict=True
        )
    ]


def choose(logits_RV: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Ids of the tokens chosen, [R], on the logits' device."""
    edited_RV = _edited(logits_RV, rows)
    chosen_R = edited_RV.argmax(-1)
    warm = [r for r, row in enumerate(rows) if row.temperature > 0]
    if warm:
        # Apple's GPUs have no float64.
        device = "cpu" if logits_RV.device.type == "mps" else logits_RV.device
        drawn_W = _draw(edited_RV[warm].to(device), [rows[r] for r in warm])
        chosen_R[warm] = drawn_W.to(chosen_R.device)
    return chosen_R


def with_likeliest(
    chosen: Sequence[Sampled], logits_RV: Tensor, counts: Sequence[int]
) -> list[Sampled]:
    """Add to each choice so many likeliest tokens, as its row of raw logits has them."""
    wanted = [r for r, count in enumerate(counts) if count]
    if not wanted:
        return list(chosen)
    logits_WV = logits_RV[wanted]
    lse_W = logits_WV.logsumexp(-1).tolist()
    top_WC, ids_WC = logits_WV.topk(max(counts), dim=-1)
    found = list(chosen)
    for r, lse, values, ids in zip(wanted, lse_W, top_WC.tolist(), ids_WC.tolist(), strict=True):
        ranked = sorted(zip(values, ids, strict=True), key=lambda one: (-one[0], one[1]))
        likeliest = tuple((token, value - lse) for value, token in ranked[: counts[r]])
        found[r] = replace(found[r], likeliest=likeliest)
    return found


def _edited(logits_RV: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    sizes = [len(row.edits.tokens_N) for row in rows]
    if not any(sizes):
        return logits_RV
    device = logits_RV.device
    at_N = torch.from_numpy(np.repeat(np.arange(len(rows)), sizes)).to(device)
    tokens_N, divide_N, subtract_N = (
        torch.from_numpy(np.concatenate([getattr(row.edits, name) for row in rows])).to(device)
        for name in ("tokens_N", "divide_N", "subtract_N")
    )
    old_N = logits_RV[at_N, tokens_N]
    new_N = torch.where(old_N > 0, old_N / divide_N, old_N * divide_N) - subtract_N
    return logits_RV.index_put((at_N, tokens_N), new_N)


def _draw(logits_WV: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Inverse-CDF sampling of rows with a temperature above 0, in float64."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=logits_WV.device, dtype=torch.float64)[:, None]

    # Subtracting the maximum first keeps tiny temperatures finite.
    scaled_WV = (logits_WV - logits_WV.amax(-1, keepdim=True)).double()
    probs_WV = torch.exp(scaled_WV / column([row.temperature for row in rows]))
    if any(row.min_p > 0 for row in rows):
        # The likeliest token's mass is 1 here.
        probs_WV = probs_WV.where(probs_WV >= column([row.min_p for row in rows]), 0.0)
    if any(row.top_k > 0 or row.top_p < 1 for row in rows):
        probs_WV = _cut_tail(probs_WV, rows)
    cumulative_WV = probs_WV.cumsum(-1)
    target_W1 = column([row.uniform for row in rows]) * cumulative_WV[:, -1:]
    # A uniform below 1 times the total stays below the total in float64, so what is found has
    # mass; rows of NaN find nothing, and only have to stay inside the vocabulary.
    found_W = torch.searchsorted(cumulative_WV, target_W1, right=True)[:, 0]
    return found_W.clamp(max=logits_WV.shape[-1] - 1)


def _cut_tail(probs_WV: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Zero all but each row's top-k, and of these all but its top-p."""
    size = probs_WV.shape[-1]
    # Sorting a whole vocabulary takes long, and the likeliest few nearly always reach top-p.
    for count in (_CANDIDATES, size):
        count = min(count, size)
        limits = [min(row.top_k or size, size) for row in rows]
        top_WC, order_WC = probs_WV.topk(count, dim=-1)
        # Equal probabilities rank by token id, as a stable sort has them.
        order_WC, by_id_WC = order_WC.sort(dim=-1)
        top_WC, by_rank_WC = top_WC.gather(-1, by_id_WC).sort(dim=-1, descending=True, stable=True)
        order_WC = order_WC.gather(-1, by_rank_WC)
        rank_C = torch.arange(count, device=probs_WV.device)[None]
        limit_W1 = torch.tensor(limits, device=probs_WV.device)[:, None]
        kept_WC = top_WC.where(rank_C < limit_W1, 0.0)
        in_full = [limit > count for limit in limits]
        total_W1 = torch.where(
            torch.tensor(in_full, device=probs_WV.device)[:, None],
            probs_WV.sum(-1, keepdim=True),
            kept_WC.sum(-1, keepdim=True),
        )
        # Rounding may lift the sum to 1 before the last token, which top_p = 1 keeps all the same.
        mass = [row.top_p if row.top_p < 1 else torch.inf for row in rows]
        mass_W1 = torch.tensor(mass, device=probs_WV.device, dtype=torch.float64)[:, None]
        before_WC = (kept_WC.cumsum(-1) - kept_WC) / total_W1
        kept_WC = kept_WC.where(before_WC < mass_W1, 0.0)
        reached_W1 = (kept_WC[:, -1:] == 0) | (limit_W1 <= count)
        # Where the last one kept ties with the last candidate, others of its rank may be missing.
        least_W1 = kept_WC.where(kept_WC > 0, torch.inf).amin(-1, keepdim=True)
        if count == size or bool((reached_W1 & (least_W1 > top_WC[:, -1:])).all()):
            break
    return torch.zeros_like(probs_WV).scatter(-1, order_WC, kept_WC)
