"""The independent reference: plain transformers, eager, float32, an explicit 4-D mask.

Nothing of the engine is used here, and positions, thought ids and the mask are written out from
the definition, token by token, rather than taken from the thought graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from parathinker import Answer
from parathinker.modeling.thought_embedding import load_thought_embeddings


def reference_model(folder: Path) -> Any:
    """A checkpoint in stock transformers, its thought embeddings attached where it has any."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    load_thought_embeddings(model, folder)
    return model


@dataclass(frozen=True)
class _Token:
    token_id: int
    position: int
    thought_id: int
    segment: int
    """0 is the prompt, then the paths in order, the summary last."""


def _sequence(answer: Answer) -> list[_Token]:
    tokens = [_Token(t, i, 0, 0) for i, t in enumerate(answer.prompt_token_ids)]
    start = len(tokens)
    for segment, path in enumerate(answer.paths, 1):
        tokens += [
            _Token(t, start + i, path.thought_id, segment) for i, t in enumerate(path.token_ids)
        ]
    after = start + max(len(path.token_ids) for path in answer.paths)
    tokens += [
        _Token(t, after + i, 0, len(answer.paths) + 1)
        for i, t in enumerate(answer.summary.token_ids)
    ]
    return tokens


@torch.no_grad()
def reference_logits(
    model: Any,
    answer: Answer,
    *,
    thoughts: bool = True,
    flat_positions: bool = False,
    drop_path: int | None = None,
) -> list[Tensor]:
    """Logits [tokens, V] of each segment (paths, then summary), recomputed in one go.

    Row k belongs to the token that follows token k. The keywords break one thing each, for
    negative controls; ``drop_path`` hides that path (1-based) from the summary.
    """
    tokens = _sequence(answer)
    last = len(answer.paths) + 1
    segment_S = torch.tensor([t.segment for t in tokens])
    query_S1, key_1S = segment_S[:, None], segment_S[None, :]
    causal_SS = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    visible_SS = causal_SS & ((query_S1 == key_1S) | (key_1S == 0) | (query_S1 == last))
    if drop_path is not None:
        visible_SS &= ~((query_S1 == last) & (key_1S == drop_path))
    mask = torch.zeros(visible_SS.shape, dtype=model.dtype)
    mask = mask.masked_fill(~visible_SS, torch.finfo(mask.dtype).min)
    positions = list(range(len(tokens))) if flat_positions else [t.position for t in tokens]
    extra = {}
    if hasattr(model.model.layers[0].self_attn, "seg_embeddings"):
        extra["thought_ids"] = torch.tensor([[t.thought_id if thoughts else 0 for t in tokens]])
    logits_SV = model(
        torch.tensor([[t.token_id for t in tokens]]),
        attention_mask=mask[None, None],
        position_ids=torch.tensor([positions]),
        use_cache=False,
        **extra,
    ).logits[0]
    return [logits_SV[segment_S == s] for s in range(1, last + 1)]


def reference_logprobs(model: Any, answer: Answer, **broken: Any) -> list[list[float]]:
    """Log-probability of each token of each segment (paths, then summary); see above.

    First tokens of segments are NaN: no token of their own segment predicts them.
    """
    segments = [*(path.token_ids for path in answer.paths), answer.summary.token_ids]
    found = []
    for token_ids, logits in zip(segments, reference_logits(model, answer, **broken), strict=True):
        logprobs = torch.log_softmax(logits[:-1].double(), -1)
        scores = logprobs.gather(-1, torch.tensor(token_ids[1:], dtype=torch.long)[:, None])[:, 0]
        found.append([math.nan, *scores.tolist()])
    return found


def largest_difference(answer: Answer, expected: list[list[float]]) -> float:
    """Largest |logprob − reference| over all tokens that the engine chose itself."""
    given = [*(path.logprobs for path in answer.paths), answer.summary.logprobs]
    differences = [
        abs(a - b)
        for mine, theirs in zip(given, expected, strict=True)
        for a, b in zip(mine, theirs, strict=True)
        if a is not None
    ]
    assert differences, "the engine reported no logprobs"
    # Python's max can lose a NaN.
    assert all(map(math.isfinite, differences)), "a logprob is not finite"
    return max(differences)
