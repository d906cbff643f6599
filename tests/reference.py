"""The independent reference: plain transformers, eager, float32, an explicit 4-D mask.

Nothing of the engine is used here, and positions, thought ids and the mask are written out from
the definition, token by token, rather than taken from the thought graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from parathinker import Answer
from parathinker.answer import Path as ThoughtPath
from parathinker.answer import Summary
from parathinker.modeling.thought_embedding import load_thought_embeddings

PROMPT, PATH, SUMMARY = "prompt", "path", "summary"


def reference_model(folder: Path) -> Any:
    """A checkpoint in stock transformers, its thought embeddings attached where it has any."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    load_thought_embeddings(model, folder)
    return model


@dataclass(frozen=True)
class Token:
    """A token of a conversation."""

    token_id: int
    position: int
    kind: str
    turn: int
    """0 is the first question's."""
    round: int
    """From 1; 0 for a prompt."""
    path: int
    """The path's place among those of its round, from 1; 0 for prompt and summary."""
    thought_id: int

    @property
    def segment(self) -> tuple[int, int, int, str]:
        """Equal for tokens of one segment only."""
        return self.turn, self.round, self.path, self.kind


def conversation(answer: Answer) -> list[Token]:
    """All tokens of an answer and of those that it follows up, in an order of writing."""
    turns = [answer]
    while turns[0].after is not None:
        turns.insert(0, turns[0].after)
    tokens: list[Token] = []
    at = 0
    for t, turn in enumerate(turns):
        tokens += [
            Token(x, at + i, PROMPT, t, 0, 0, 0) for i, x in enumerate(turn.prompt_token_ids)
        ]
        at += len(turn.prompt_token_ids)
        for r, one in enumerate(turn.rounds, 1):
            for p, path in enumerate(one.paths, 1):
                tokens += [
                    Token(x, at + i, PATH, t, r, p, path.thought_id)
                    for i, x in enumerate(path.token_ids)
                ]
            at += max((len(path.token_ids) for path in one.paths), default=0)
            written = one.summary.token_ids
            if one is turn.rounds[-1] and turn is not answer:
                # What a summary ended with begins the prompt of the question that follows it up.
                assert turns[t + 1].prompt_token_ids[0] == written[-1]
                written = written[:-1]
            tokens += [Token(x, at + i, SUMMARY, t, r, 0, 0) for i, x in enumerate(written)]
            at += len(written)
    return tokens


def sees(query: Token, key: Token) -> bool:
    """Whether one token sees another of another segment, for tokens of one conversation."""
    if key.turn != query.turn:
        return key.turn < query.turn and key.kind != PATH
    if key.round != query.round:  # a prompt has round 0
        return key.round < query.round
    return query.kind == SUMMARY and key.kind == PATH


@torch.no_grad()
def reference_logits(
    model: Any,
    answer: Answer,
    *,
    thoughts: bool = True,
    flat_positions: bool = False,
    drop_path: int | None = None,
    drop_round: int | None = None,
    drop_turn: int | None = None,
    earlier_paths: bool = False,
    chained_paths: bool = False,
) -> list[Tensor]:
    """Logits [tokens, V] of each segment of an answer's own turn, recomputed in one go.

    Segments come in order: of each round the paths, then the summary. Row k belongs to the token
    that follows token k. The keywords break one thing each, for negative controls: ``drop_path``
    hides that path (1-based) from its round's summary, ``drop_round`` that round's paths from later
    rounds, ``drop_turn`` that turn (0-based) from later ones; ``earlier_paths`` shows paths of
    earlier turns to later ones, ``chained_paths`` each path of a round to those behind it.
    """
    tokens = conversation(answer)

    def visible(query: Token, key: Token) -> bool:
        if key.kind == PATH and key.turn == query.turn:
            if key.round == query.round and key.path == drop_path:
                return False
            if key.round < query.round and key.round == drop_round:
                return False
            if chained_paths and query.kind == PATH and key.round == query.round:
                return key.path < query.path
        if key.turn < query.turn and key.turn == drop_turn:
            return False
        if earlier_paths and key.kind == PATH and key.turn < query.turn:
            return True
        return sees(query, key)

    # Tokens of one segment see the same tokens of any other one, so each pair is looked at once.
    one_of = {token.segment: token for token in tokens}
    number = {segment: i for i, segment in enumerate(one_of)}
    visible_GG = torch.tensor([[visible(q, k) for k in one_of.values()] for q in one_of.values()])
    segment_S = torch.tensor([number[token.segment] for token in tokens])
    own_SS = segment_S[:, None] == segment_S[None, :]
    causal_SS = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    visible_SS = torch.where(own_SS, causal_SS, visible_GG[segment_S][:, segment_S])
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
    rows: dict[tuple[int, int, int, str], list[int]] = {}
    for s, token in enumerate(tokens):
        if token.turn == tokens[-1].turn and token.kind != PROMPT:
            rows.setdefault(token.segment, []).append(s)
    return [logits_SV[row] for row in rows.values()]


def segments_of(answer: Answer) -> Iterator[ThoughtPath | Summary]:
    """An answer's segments in the order in which they come here."""
    for one in answer.rounds:
        yield from one.paths
        yield one.summary


def reference_logprobs(model: Any, answer: Answer, **broken: Any) -> list[list[float]]:
    """Log-probability of each token of each segment, in the order of :func:`segments_of`.

    First tokens of segments are NaN: no token of their own segment predicts them.
    """
    found = []
    logits = reference_logits(model, answer, **broken)
    for segment, logits_SV in zip(segments_of(answer), logits, strict=True):
        logprobs = torch.log_softmax(logits_SV[:-1].double(), -1)
        chosen = torch.tensor(segment.token_ids[1:], dtype=torch.long)
        found.append([math.nan, *logprobs.gather(-1, chosen[:, None])[:, 0].tolist()])
    return found


def largest_difference(answer: Answer, expected: list[list[float]]) -> float:
    """Largest |logprob − reference| over all tokens that the engine chose itself."""
    differences = [
        abs(a - b)
        for segment, theirs in zip(segments_of(answer), expected, strict=True)
        for a, b in zip(segment.logprobs, theirs, strict=True)
        if a is not None
    ]
    assert differences, "the engine reported no logprobs"
    # Python's max can lose a NaN.
    assert all(map(math.isfinite, differences)), "a logprob is not finite"
    return max(differences)
