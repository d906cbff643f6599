"""Structured attention: the graph's visibility as a few dense pieces instead of one S×S mask.

Each sibling group attends, as a batch over its members, to [its ancestors' tokens, its own
segment]. For the standard graph these are three pieces: prompt on prompt, every path on prompt and
itself, summary on everything; work and memory fall by about the number of paths. It is registered
with transformers under a name of its own and has a backward on every device.
"""

# Shapes: B batch, M members of a group, H query heads, K kv heads, S sequence, W width of a
# segment, C context, D head dim.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parathinker.training.batch import BatchLayout, GroupLayout

NAME = "thought_graph"


def thought_graph_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    thought_layout: BatchLayout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a padded batch of thought graphs, as transformers calls it.

    Args:
        query: [B, H, S, D]; key and value: [B, K, S, D].
        thought_layout: the batch's structure, handed to the model as a keyword.

    Returns:
        [B, S, H, D] and no weights.
    """
    if thought_layout is None:
        raise ValueError(f"attention {NAME!r} needs thought_layout= in the model's call")
    dtype = query.dtype
    if query.device.type == "cpu":
        # The CPU's flash kernel goes backward several times faster in float32 than in bfloat16.
        query, key, value = query.float(), key.float(), value.float()
    # Splitting once, rather than slicing for each group, makes the backward one concatenation.
    widths = list(thought_layout.widths)
    q_parts, k_parts, v_parts = (torch.split(x, widths, dim=2) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=query.device.type != "cpu"):
        pieces = [
            _attend(group, q_parts, k_parts, v_parts, scaling, dropout)
            for group in thought_layout.groups
        ]
    return torch.cat(pieces, dim=2).transpose(1, 2).to(dtype), None


def _attend(
    group: GroupLayout,
    q_parts_BHWD: tuple[Tensor, ...],
    k_parts_BKWD: tuple[Tensor, ...],
    v_parts_BKWD: tuple[Tensor, ...],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """One group's output [B, H, M * W, D]; ``parts`` are the segments' own columns."""
    members = len(group.segments)

    def own(parts: tuple[Tensor, ...]) -> Tensor:
        """[B * M, heads, W, D]"""
        return torch.stack([parts[i] for i in group.segments], dim=1).flatten(0, 1)

    def with_context(parts: tuple[Tensor, ...]) -> Tensor:
        """[B * M, K, C + W, D]"""
        if not group.context:
            return own(parts)
        context = torch.cat([parts[i] for i in group.context], dim=2)
        context = context[:, None].expand(-1, members, -1, -1, -1).flatten(0, 1)
        return torch.cat([context, own(parts)], dim=2)

    q, k, v = own(q_parts_BHWD), with_context(k_parts_BKWD), with_context(v_parts_BKWD)
    mask = group.mask
    if mask is not None:
        mask = mask[:, None].expand(-1, members, -1, -1).flatten(0, 1)[:, None]
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    out_BMHWD = out.view(-1, members, *out.shape[1:])
    return out_BMHWD.transpose(1, 2).flatten(2, 3)


def register() -> None:
    """Make ``attn_implementation="thought_graph"`` known to transformers; harmless to repeat."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, thought_graph_attention)
