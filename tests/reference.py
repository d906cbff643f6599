"""The independent reference: plain transformers, eager, float32, the graph's explicit 4-D mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from parathinker import Answer, ThoughtGraph
from parathinker.modeling.masks import additive_mask
from parathinker.modeling.thought_embedding import load_thought_embeddings


def reference_model(folder: Path) -> Any:
    """A checkpoint in stock transformers, its thought embeddings attached where it has any."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    load_thought_embeddings(model, folder)
    return model


@torch.inference_mode()
def reference_logprobs(
    model: Any,
    answer: Answer,
    *,
    thoughts: bool = True,
    flat_positions: bool = False,
    drop_path: int | None = None,
) -> list[list[float]]:
    """Log-probability of each token of each segment (paths, then summary), recomputed in one go.

    The keywords break one thing each, for negative controls. First tokens of segments are NaN:
    no token of their own segment predicts them.
    """
    segments = [path.token_ids for path in answer.paths]
    ids = [path.thought_id for path in answer.paths]
    graph = ThoughtGraph.parallel(
        len(answer.prompt_token_ids),
        [(i, len(s)) for i, s in zip(ids, segments, strict=True)],
        len(answer.summary.token_ids),
    )
    segments = [*segments, answer.summary.token_ids]
    tokens = torch.tensor([[*answer.prompt_token_ids, *(t for s in segments for t in s)]])
    positions = torch.tensor([graph.positions()])
    if flat_positions:
        positions = torch.arange(tokens.shape[1])[None]
    thought_ids = torch.tensor([graph.thought_ids()])
    mask = additive_mask(graph)
    if drop_path is not None:
        owner = torch.tensor(graph.token_segments())
        summary = owner == len(graph.segments) - 1
        mask[0, 0, summary[:, None] & (owner == drop_path)[None, :]] = torch.finfo(mask.dtype).min
    extra = {"thought_ids": thought_ids if thoughts else torch.zeros_like(thought_ids)}
    if not hasattr(model.model.layers[0].self_attn, "seg_embeddings"):
        extra = {}
    logits = model(
        tokens, attention_mask=mask, position_ids=positions, use_cache=False, **extra
    ).logits
    logprobs = torch.log_softmax(logits[0].float(), -1)
    found, at = [], len(answer.prompt_token_ids)
    for segment in segments:
        scores = logprobs[at : at + len(segment) - 1].gather(
            -1, torch.tensor(segment[1:])[:, None]
        )[:, 0]
        found.append([float("nan"), *scores.tolist()])
        at += len(segment)
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
    return max(differences)
