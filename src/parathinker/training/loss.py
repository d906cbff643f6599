"""Weighted cross-entropy from hidden states, without all of the logits at once.

Logits of 28,000 tokens over 152,000 words take 17 GB in float32, their gradients as much again.
Here the output head is applied to a few rows at a time; of each chunk the loss and both gradients
are worked out at once, and the chunk's logits forgotten. PyTorch 2.13's ``linear_cross_entropy``
computes alike, but needs that version, and rounds each row's loss to the dtype of the inputs.
"""

# Shapes: N rows, E hidden size, V vocabulary, R words that alone are trained.

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from parathinker.modeling.adapter import TrainedRows, trained_rows
from parathinker.training.batch import IGNORED

CHUNK_NUMBERS = 2**25
"""Logits of a chunk: 128 MB in float32."""


@dataclass(frozen=True)
class LossParts:
    """Unweighted sums of row losses, and rows, by what the rows belong to; 0-dim tensors."""

    paths: Tensor
    path_tokens: Tensor
    summary: Tensor
    summary_tokens: Tensor

    @classmethod
    def none(cls, device: torch.device) -> LossParts:
        """Of no rows."""
        zero = torch.zeros((), device=device)
        return cls(zero, zero, zero, zero)

    def __add__(self, other: LossParts) -> LossParts:
        return LossParts(
            self.paths + other.paths,
            self.path_tokens + other.path_tokens,
            self.summary + other.summary,
            self.summary_tokens + other.summary_tokens,
        )


def loss_parts(losses_N: Tensor, thought_ids_N: Tensor) -> LossParts:
    """Row losses by segment: what has a thought id is a path's, other labels are a summary's."""
    of_path = thought_ids_N > 0
    return LossParts(
        (losses_N * of_path).sum(), of_path.sum(), (losses_N * ~of_path).sum(), (~of_path).sum()
    )


def weighted_cross_entropy(
    hidden_NE: Tensor,
    head_VE: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    chunk_numbers: int | None = None,
    trained: TrainedRows | None = None,
) -> tuple[Tensor, Tensor]:
    """Σ weight · cross-entropy(hidden @ headᵀ, label); products in autocast's dtype if it is on.

    Gradients are accumulated in float32 and flow to ``hidden_NE`` and ``head_VE``, once: a second
    backward needs a second call.

    Args:
        labels_N: int64, every one a word.
        weights_N: float32, constants.
        chunk_numbers: at most so many logits at a time, but at least those of one row; by default
            ``CHUNK_NUMBERS``.
        trained: rows that stand in the place of the head's own; gradients flow to them and not to
            ``head_VE``.

    Returns:
        The sum, and the unweighted loss of each row; both float32, the rows without gradient.
    """
    device = hidden_NE.device.type
    dtype = hidden_NE.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    learn = torch.is_grad_enabled()
    rows = _chunk_rows(head_VE.shape[0], chunk_numbers)
    apply: Callable[..., tuple[Tensor, Tensor]] = _ChunkedCrossEntropy.apply
    if trained is None:
        return apply(hidden_NE, head_VE, labels_N, weights_N, rows, dtype, learn, None, None)
    fixed = head_VE.detach()
    given = (trained.index_R, trained.rows_RE)
    return apply(hidden_NE, fixed, labels_N, weights_N, rows, dtype, learn, *given)


def _chunk_rows(vocabulary: int, chunk_numbers: int | None = None) -> int:
    return max(1, (chunk_numbers or CHUNK_NUMBERS) // vocabulary)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass: forward keeps dhidden [N, E] and dhead [V, E] or drows [R, E]
    for backward.

    With z = hidden @ headᵀ and p = softmax(z), the loss of a row is log Σ exp z - z[label], and its
    gradient with respect to z is weight · (p - 1[label]).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        head_VE: Tensor,
        labels_N: Tensor,
        weights_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
        learn: bool,
        index_R: Tensor | None,
        rows_RE: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        inputs = {0: hidden_NE, 1: head_VE, 8: rows_RE}
        d_hidden_NE, d_head_VE, d_rows_RE = (
            torch.zeros_like(x, dtype=torch.float32)
            if x is not None and learn and ctx.needs_input_grad[i]
            else None
            for i, x in inputs.items()
        )
        gradients = (d_hidden_NE, d_head_VE, d_rows_RE)
        losses_N = hidden_NE.new_empty(len(labels_N), dtype=torch.float32)
        head = head_VE.to(dtype)
        if index_R is not None and rows_RE is not None:
            head = head.index_copy(0, index_R, rows_RE.to(dtype))
        with torch.autocast(hidden_NE.device.type, enabled=False):
            for start in range(0, len(labels_N), chunk):
                rows = slice(start, start + chunk)
                hidden, labels = hidden_NE[rows].to(dtype), labels_N[rows, None]
                z = (hidden @ head.T).float()
                z.sub_(z.amax(1, keepdim=True))
                at_label = z.gather(1, labels)
                total = z.exp_().sum(1, keepdim=True)
                losses_N[rows] = (total.log() - at_label)[:, 0]
                if all(gradient is None for gradient in gradients):
                    continue
                weights = weights_N[rows, None].float()
                d_z = z.mul_(weights / total).scatter_add_(1, labels, -weights).to(dtype)
                if d_hidden_NE is not None:
                    d_hidden_NE[rows] = (d_z @ head).float()
                if d_head_VE is not None:
                    if dtype is torch.float32:
                        d_head_VE.addmm_(d_z.T, hidden)
                    else:
                        d_head_VE.add_(d_z.T @ hidden)
                if d_rows_RE is not None:
                    d_rows_RE.add_(d_z[:, index_R].T @ hidden)
        ctx.gradients = gradients
        ctx.dtypes = [None if x is None else x.dtype for x in inputs.values()]
        ctx.mark_non_differentiable(losses_N)
        return (losses_N * weights_N.float()).sum(), losses_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the chunked cross-entropy goes backward only once")
        gradients, ctx.gradients = ctx.gradients, None
        d_hidden, d_head, d_rows = (
            None if x is None else x.mul_(grad).to(dtype)
            for x, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return d_hidden, d_head, None, None, None, None, None, None, d_rows


def packed_loss(
    model: Any, batch: dict[str, Any], causal_lm: Any = None
) -> tuple[Tensor, LossParts]:
    """The weighted sum of a packed row's losses, and its parts.

    Args:
        model: what is called with the batch: a causal LM, or what DDP, FSDP and others made of it.
        batch: as from :func:`~parathinker.training.batch.pack`.
        causal_lm: the causal LM itself, where ``model`` is something around it.
    """
    batch = dict(batch)
    labels_S, weights_S = batch.pop("shift_labels")[0], batch.pop("loss_weights")[0]
    columns = (labels_S != IGNORED).nonzero()[:, 0]
    inner = model if causal_lm is None else causal_lm
    with _loss_in_head(inner, labels_S[columns], weights_S[columns]) as losses:
        total: Tensor = model(**batch, logits_to_keep=columns, use_cache=False).logits
    return total, loss_parts(losses[0], batch["thought_ids"][0, columns])


@contextmanager
def _loss_in_head(model: Any, labels_N: Tensor, weights_N: Tensor) -> Iterator[list[Tensor]]:
    """Inside, a causal LM's ``logits`` are the weighted loss of the rows it was asked to keep.

    The loss is computed in the output head's own call: whatever wraps the model or its parts
    (DDP, FSDP, autocast, adapters) sees the calls it expects, with the weights in their place.

    Args:
        model: a transformers causal LM; call it with ``logits_to_keep``.
        labels_N: of the rows kept, every one a word; their weights likewise.

    Yields:
        A list that will hold the rows' unweighted losses, without gradient.
    """
    head: Any = model.get_output_embeddings()
    usual, own = head.forward, "forward" in vars(head)
    losses: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        hidden_NE = hidden.flatten(0, -2)
        if isinstance(head, nn.Linear) and getattr(head, "bias", None) is None:
            total, rows = weighted_cross_entropy(hidden_NE, head.weight, labels_N, weights_N)
        elif (trained := trained_rows(head)) is not None:
            total, rows = weighted_cross_entropy(
                hidden_NE, trained.frozen_VE, labels_N, weights_N, trained=trained
            )
        else:
            chunk = _chunk_rows(model.config.vocab_size)
            total, rows = _through(usual, hidden_NE, labels_N, weights_N, chunk)
        losses.append(rows)
        return total

    head.forward = forward
    try:
        yield losses
    finally:
        if own:
            head.forward = usual
        else:
            del head.forward


def _through(
    head: Callable[[Tensor], Tensor],
    hidden_NE: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """The same through any head, an adapter's for instance; its logits are computed twice."""

    def chunk_loss(hidden: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(hidden).float(), labels, reduction="none")

    chunks = [
        checkpoint(chunk_loss, hidden, labels, use_reentrant=False)
        for hidden, labels in zip(hidden_NE.split(chunk), labels_N.split(chunk), strict=True)
    ]
    losses_N = torch.cat(chunks)
    return (losses_N * weights_N.float()).sum(), losses_N.detach()
