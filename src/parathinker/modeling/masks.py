"""The graph's visibility as one dense mask: the reference that every faster path must equal."""

from __future__ import annotations

import torch
from torch import Tensor

from parathinker.graph import ThoughtGraph


def dense_mask(graph: ThoughtGraph) -> Tensor:
    """Which token sees which: bool [S, S], row = query, column = key, S = ``graph.length``."""
    owner_S = torch.tensor(graph.token_segments(), dtype=torch.long)
    count = len(graph.segments)
    reads = torch.tensor(graph.reads(), dtype=torch.bool).view(count, count)
    index_S = torch.arange(len(owner_S))
    same_SS = owner_S[:, None] == owner_S[None, :]
    causal_SS = index_S[:, None] >= index_S[None, :]
    return torch.where(same_SS, causal_SS, reads[owner_S[:, None], owner_S[None, :]])


def additive_mask(graph: ThoughtGraph, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same as transformers takes it: [1, 1, S, S], 0 where visible, the least number else."""
    visible_SS = dense_mask(graph)
    mask_SS = torch.zeros(visible_SS.shape, dtype=dtype)
    return mask_SS.masked_fill(~visible_SS, torch.finfo(dtype).min)[None, None]
