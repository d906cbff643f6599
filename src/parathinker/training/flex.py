"""FlexAttention over a packed row of thought graphs: the choice for training on CUDA.

The graph's visibility becomes a mask function over token pairs, which torch.compile builds into one
kernel; blocks of 128×128 that nobody sees are skipped. FlexAttention has no backward on the CPU,
where ``attention.py`` trains; on CUDA this has not been run, for want of a GPU.
"""

# Shapes: S columns of the row, H query heads, K kv heads, D head dim, N segments of the row.

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from parathinker.training.attention import check_call
from parathinker.training.layout import RowLayout

NAME = "thought_graph_flex"


def thought_graph_flex_attention(
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
    """Attention over a packed row, as transformers calls it; shapes as in ``attention.py``."""
    layout = check_call(NAME, query, dropout, thought_layout)
    out = _attend(query.device.type)(
        query,
        key.to(query.dtype),
        value.to(query.dtype),
        block_mask=block_mask(layout, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2), None


def mask_mod(layout: RowLayout, device: torch.device) -> Callable[..., Tensor]:
    """The row's visibility as FlexAttention asks for it: (batch, head, query, key) to bool.

    No token sees padding; padding, whose output nobody wants, sees as if it were a token.
    """
    owner = torch.zeros(layout.length, dtype=torch.int32)
    is_token = torch.zeros(layout.length, dtype=torch.bool)
    sees = torch.zeros(len(layout.spans), len(layout.spans), dtype=torch.bool)
    for i, span in enumerate(layout.spans):
        owner[span.start : span.start + span.width] = i
        is_token[span.start : span.start + span.length] = True
        sees[i, list(span.visible)] = True
    owner_S, is_token_S, sees_NN = owner.to(device), is_token.to(device), sees.to(device)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        reader, read = owner_S[query], owner_S[key]
        itself = (reader == read) & (query >= key)
        return itself | (sees_NN[reader, read] & is_token_S[key])

    return visible


@lru_cache(maxsize=2)
def block_mask(layout: RowLayout, device: torch.device) -> BlockMask:
    """Which blocks of the row see which; worked out once for all layers."""
    size = layout.length
    return create_block_mask(
        mask_mod(layout, device),
        None,
        None,
        size,
        size,
        device=str(device),
        # Compiled, it does not hold the S×S mask that it is summed up from.
        _compile=device.type != "cpu",
    )


@lru_cache(maxsize=2)
def _attend(device: str) -> Callable[..., Tensor]:
    """Compiled where it is made for; on the CPU, where it is only tested, as plain PyTorch."""
    if device == "cpu":
        return flex_attention
    return torch.compile(flex_attention)
