"""The lean decoder: one forward over tokens of any requests, any phase, any segment.

It holds no cache and knows no request: where keys go and who reads what is the attention's
business, which comes as an argument. Equal to transformers' forward up to rounding.
"""

# Shapes: N tokens, R rows wanted, E hidden size, H query heads, K kv heads, X heads of several
# kinds one behind the other, D head dim, V vocabulary.

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from parathinker.modeling.checkpoint import DecoderWeights, LayerWeights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.rope import RotaryEmbedding, rotate


class Attention(Protocol):
    """Stores new keys and values of a layer and lets queries read what they may see."""

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Output [N, H, D] of one layer."""
        ...


class Decoder:
    """A decoder-only transformer: RMSNorm, RoPE, grouped-query attention, SwiGLU.

    Args:
        compile: fuse everything but attention with ``torch.compile``.
    """

    def __init__(
        self, config: DecoderConfig, weights: DecoderWeights, *, compile: bool = False
    ) -> None:
        self.config = config
        if compile:
            # Numbers of tokens differ from step to step: one kernel for all of them.
            self._project = torch.compile(self._project, dynamic=True)  # type: ignore[method-assign]
            self._mlp = torch.compile(self._mlp, dynamic=True)  # type: ignore[method-assign]
        self.weights = weights
        self.device = weights.embedding.device
        self.dtype = weights.embedding.dtype
        self._rope = RotaryEmbedding(config, self.device)

    def forward(
        self,
        token_ids_N: Tensor,
        positions_N: Tensor,
        thought_ids_N: Tensor,
        attention: Attention,
        rows_R: Tensor,
    ) -> Tensor:
        """Logits [R, V] in float32 of the tokens at ``rows_R``; all inputs int64."""
        x_NE = F.embedding(token_ids_N, self.weights.embedding)
        cos_sin = self._rope.angles(positions_N)
        for layer, w in enumerate(self.weights.layers):
            q_NHD, k_NKD, v_NKD = self._project(w, x_NE, thought_ids_N, *cos_sin)
            out_NHD = attention(layer, q_NHD, k_NKD, v_NKD)
            x_NE = x_NE + F.linear(out_NHD.flatten(1), w.output, w.output_bias)
            x_NE = x_NE + self._mlp(w, x_NE)
        x_RE = self._norm(x_NE[rows_R], self.weights.norm)
        return F.linear(x_RE, self.weights.head).float()

    def _project(
        self,
        w: LayerWeights,
        x_NE: Tensor,
        thought_ids_N: Tensor,
        cos_N1D: Tensor,
        sin_N1D: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, H, D], keys and values [N, K, D], ready to be attended to."""
        c = self.config
        H, K = c.num_heads, c.num_kv_heads
        qkv = F.linear(self._norm(x_NE, w.input_norm), w.qkv, w.qkv_bias)
        qkv_NXD = qkv.view(len(x_NE), H + 2 * K, c.head_dim)
        if w.q_norm is not None and w.k_norm is not None:
            q_NHD, k_NKD, v_NKD = torch.split(qkv_NXD, [H, K, K], dim=1)
            q_NHD, k_NKD = self._norm(q_NHD, w.q_norm), self._norm(k_NKD, w.k_norm)
            qkv_NXD = torch.cat([q_NHD, k_NKD, v_NKD], dim=1)
        if w.thought is not None:
            # The same vector for every head of k and of v.
            qkv_NXD[:, H:] += F.embedding(thought_ids_N, w.thought)[:, None]
        qk_NXD = rotate(qkv_NXD[:, : H + K], cos_N1D, sin_N1D)
        return qk_NXD[:, :H], qk_NXD[:, H:], qkv_NXD[:, H + K :]

    def _mlp(self, w: LayerWeights, x_NE: Tensor) -> Tensor:
        hidden = F.linear(self._norm(x_NE, w.post_norm), w.gate_up, w.gate_up_bias)
        gate, up = hidden.chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, w.down, w.down_bias)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)
