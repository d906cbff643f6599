"""The model as vLLM runs it: Llama, Qwen2, Qwen3 and Mistral, with thought embeddings.

vLLM's Llama carries all four, once the config says which projections have biases and whether
queries and keys are normed (``settings.py`` has it say so). Position and thought id of a token
arrive as one word (``layout.py``) through the channel that vLLM has for multimodal positions: it
is filled from a request's token ids, survives chunked prefill and preemption, and goes on by one
with each token.
"""

# Shapes: N tokens of a forward, D head dim.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.models.interfaces import SupportsMRoPE
from vllm.model_executor.models.llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
)

from parathinker.backends.vllm.layout import POSITION_MASK, THOUGHT_SHIFT, Openings, words
from parathinker.modeling.config import THOUGHT_EMBEDDING_MODULE


class ThinkingAttention(LlamaAttention):  # type: ignore[misc]  # vLLM ships no types for it
    """Attention whose keys and values get their token's thought embedding added."""

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        ours = config.parathinker_vllm
        self.seg_embeddings: nn.Embedding | None = None
        if ours["thought_rows"]:
            self.seg_embeddings = nn.Embedding(ours["thought_rows"], self.head_dim)
            self.seg_embeddings.requires_grad_(False)
        self.q_norm = self.k_norm = None
        if ours["qk_norm"]:
            self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def _init_rotary_emb(self, config: Any, quant_config: Any) -> None:
        # The config's own entry says that positions come as words, and how long sequences get.
        self.rotary_emb = get_rope(
            self.head_dim,
            max_position=config.parathinker_vllm["max_position"],
            rope_parameters=config.parathinker_vllm["rope"],
            is_neox_style=True,
        )

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        thought_ids_N, positions_N = positions >> THOUGHT_SHIFT, positions & POSITION_MASK
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(q.unflatten(-1, (-1, self.head_dim)).contiguous()).flatten(-2)
            k = self.k_norm(k.unflatten(-1, (-1, self.head_dim)).contiguous()).flatten(-2)
        if self.seg_embeddings is not None:
            thought = self.seg_embeddings(thought_ids_N).repeat(1, self.num_kv_heads)
            k, v = k + thought, v + thought
        q, k = self.rotary_emb(positions_N, q, k)
        output, _ = self.o_proj(self.attn(q, k, v))
        return output  # type: ignore[no-any-return]


class ThinkingLayer(LlamaDecoderLayer):  # type: ignore[misc]
    """A decoder layer around it."""

    def __init__(self, vllm_config: Any, prefix: str = "", config: Any = None) -> None:
        super().__init__(vllm_config, prefix, config, attn_layer_type=ThinkingAttention)


class ParaThinkerForCausalLM(LlamaForCausalLM, SupportsMRoPE):  # type: ignore[misc]
    """The whole model; positions are words."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=ThinkingLayer)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Any:
        # All three rows say the same; one row keeps the model's compiled graph as it is.
        row = positions[0] if positions.ndim == 2 else positions
        return super().forward(input_ids, row, intermediate_tensors, inputs_embeds)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
        if not self.config.parathinker_vllm["thought_rows"]:  # the file may have them all the same
            weights = ((name, one) for name, one in weights if THOUGHT_EMBEDDING_MODULE not in name)
        return super().load_weights(weights)

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: Any = None
    ) -> tuple[Tensor, int]:
        """Words of a prompt's tokens, [3, tokens], and what to add to later tokens' indices."""
        ours = self.config.parathinker_vllm
        openings = Openings(tuple(ours["path_openings"]), ours["summary_opening"])
        words_T, beyond = words(input_tokens, openings)
        return torch.from_numpy(words_T).expand(3, -1).contiguous(), beyond
