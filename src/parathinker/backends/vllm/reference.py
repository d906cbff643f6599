"""The rule itself, computed in vLLM's workers: the model's own layers under one explicit mask.

No cache, no blocks and no kernel of vLLM's attention take part, so what comes out is what they
should have made of the same tokens. It is for a few hundred tokens.
"""

# Shapes: N tokens, H query heads and K kv heads of this worker, D head dim, R rows wanted,
# V vocabulary.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ReferenceWorker:
    """Mixed into vLLM's worker; :meth:`parathinker_logprobs` is asked for by name."""

    def parathinker_logprobs(
        self,
        tokens: list[int],
        words: list[int],
        segments: list[int],
        reads: list[list[bool]],
        wanted: list[tuple[int, list[int]]],
    ) -> list[list[float]]:
        """Log-probabilities of tokens that could follow one of these.

        Args:
            words: each token's thought id and position (``layout.py``).
            segments: each token's segment.
            reads: whether a segment reads another one in full.
            wanted: indices of tokens, and which tokens behind them are asked for.
        """
        worker: Any = self
        model = worker.model_runner.get_model()
        inner, device = model.model, worker.device
        segment_N = torch.tensor(segments, device=device)
        own_NN = segment_N[:, None] == segment_N[None]
        reads_GG = torch.tensor(reads, device=device)
        visible_NN = torch.where(
            own_NN, torch.ones_like(own_NN).tril(), reads_GG[segment_N][:, segment_N]
        )
        layers = [layer.self_attn for layer in inner.layers]
        kernels = [layer.attn for layer in layers]
        try:
            for layer in layers:
                layer.attn = MaskedAttention(layer, visible_NN)
            with torch.inference_mode():
                # The class's own forward: calling the model would run its compiled graph.
                hidden_NE = type(inner).forward(
                    inner,
                    torch.tensor(tokens, device=device),
                    torch.tensor(words, device=device),
                    None,
                )
                rows_R = torch.tensor([row for row, _ in wanted], device=device)
                logits_RV = model.compute_logits(hidden_NE[rows_R])
        finally:
            for layer, kernel in zip(layers, kernels, strict=True):
                layer.attn = kernel
        if logits_RV is None:  # another worker of the group has them
            return []
        logprobs_RV = torch.log_softmax(logits_RV.float(), -1)
        return [
            logprobs_RV[r, torch.tensor(ids, device=device)].tolist()
            for r, (_, ids) in enumerate(wanted)
        ]


class MaskedAttention(nn.Module):
    """Every query's scores of all keys, and a mask."""

    def __init__(self, layer: Any, visible_NN: Tensor) -> None:
        super().__init__()
        self._heads, self._kv_heads = layer.num_heads, layer.num_kv_heads
        self._scale, self._visible_NN = layer.scaling, visible_NN

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q_NHD = query.unflatten(-1, (self._heads, -1)).float()
        shared = self._heads // self._kv_heads
        k_NHD, v_NHD = (
            x.unflatten(-1, (self._kv_heads, -1)).float().repeat_interleave(shared, 1)
            for x in (key, value)
        )
        scores_HNN = torch.einsum("nhd,mhd->hnm", q_NHD, k_NHD) * self._scale
        scores_HNN = scores_HNN.masked_fill(~self._visible_NN, -torch.inf)
        mixed_NHD = torch.einsum("hnm,mhd->nhd", scores_HNN.softmax(-1), v_NHD)
        return mixed_NHD.flatten(1).to(query.dtype)
