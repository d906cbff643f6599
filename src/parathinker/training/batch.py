"""Examples → graphs → one padded batch with positions, thought ids and labels.

All examples of a batch have the same number of paths. Each segment is padded on its right to a
width shared by its sibling group across the batch, so attention can work on whole groups as dense
blocks (see ``attention.py``) and no S×S mask is ever built.
"""

# Shapes: B batch, S padded sequence, C context (ancestors' columns), W width of one segment.

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from parathinker.data.schema import Example
from parathinker.errors import UsageError
from parathinker.graph import Kind, ThoughtGraph
from parathinker.prompt import PromptCodec

IGNORED = -100
"""Label of a position that the loss leaves out (PyTorch's and transformers' convention)."""


@dataclass(frozen=True)
class EncodedExample:
    """An example as segments of token ids, in the order of its graph."""

    graph: ThoughtGraph
    tokens: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[int, ...], ...]
    """For each token the next one in its segment, or ``IGNORED``; never across segments."""


@dataclass(frozen=True)
class GroupLayout:
    """One sibling group of the padded batch and what it reads; segments by index."""

    segments: tuple[int, ...]
    context: tuple[int, ...]
    """All ancestors."""
    mask: Tensor | None
    """Visible keys, bool [B, W, C + W] for context then own segment; None: plain causal."""


@dataclass(frozen=True)
class BatchLayout:
    """The structure of a batch; travels through the model to the attention function."""

    widths: tuple[int, ...]
    """Columns of each segment, in order."""
    groups: tuple[GroupLayout, ...]


def encode_example(
    example: Example,
    codec: PromptCodec,
    rng: random.Random,
    summary_prefix: str = "",
) -> EncodedExample:
    """Tokenise one example; its paths get random thought ids out of all that exist.

    The loss covers what the model writes itself: the text and closing token of paths to learn and
    of the summary, not the forced ``<think i>``, ``<summary>`` and summary prefix.

    Raises:
        UsageError: more paths than the vocabulary has control tokens for.
    """
    control = codec.control
    count = len(example.paths)
    if count > control.max_paths:
        raise UsageError(f"an example has {count} paths; this model has {control.max_paths}")
    thought_ids = rng.sample(range(1, control.max_paths + 1), count)
    graph = ThoughtGraph()
    prompt = codec.encode_question(example.question)
    root = graph.add(Kind.PROMPT, len(prompt))
    tokens, labels = [prompt], [[IGNORED] * len(prompt)]
    for thought_id, path in zip(thought_ids, example.paths, strict=True):
        opening, closing = control.opens[thought_id - 1], control.closes[thought_id - 1]
        path_tokens = [opening, *codec.encode_text(path.text), closing]
        graph.add(Kind.PATH, len(path_tokens), (root,), thought_id)
        tokens.append(path_tokens)
        labels.append(_next_tokens(path_tokens, forced=1 if path.learn else len(path_tokens)))
    if example.summary is not None:
        opening_tokens = [control.summary_open, *codec.encode_text(summary_prefix)]
        body = [*codec.encode_text(example.summary), control.summary_close]
        graph.add(Kind.SUMMARY, len(opening_tokens) + len(body), range(len(graph.segments)))
        tokens.append(opening_tokens + body)
        labels.append(_next_tokens(tokens[-1], forced=len(opening_tokens)))
    return EncodedExample(graph, tuple(map(tuple, tokens)), tuple(map(tuple, labels)))


def _next_tokens(tokens: list[int], forced: int) -> list[int]:
    """Labels: position t predicts token t + 1, where the model writes that token itself."""
    return [
        tokens[t + 1] if t + 1 >= forced and t + 1 < len(tokens) else IGNORED
        for t in range(len(tokens))
    ]


def collate(
    examples: Sequence[EncodedExample], pad_id: int, summary_weight: float = 1.0
) -> dict[str, object]:
    """One batch of examples whose graphs have the same shape (kinds and parents).

    Returns:
        ``input_ids``, ``position_ids``, ``thought_ids``, ``shift_labels``: int64 [B, S];
        ``loss_weights``: float32 [B, S], 1 on paths and ``summary_weight`` on summaries;
        ``thought_layout``: the :class:`BatchLayout`.

    Raises:
        UsageError: the graphs differ in shape.
    """
    shape = _shape(examples[0].graph)
    if any(_shape(e.graph) != shape for e in examples):
        raise UsageError(
            "examples of one batch need the same number of paths, and all a summary or none"
        )
    groups = examples[0].graph.sibling_groups()
    widths: list[int] = []
    for group in groups:
        width = max(len(e.tokens[i]) for e in examples for i in group)
        widths += [width] * len(group)
    starts = [0, *accumulate(widths)]

    size = (len(examples), starts[-1])
    input_ids_BS = torch.full(size, pad_id, dtype=torch.long)
    labels_BS = torch.full(size, IGNORED, dtype=torch.long)
    positions_BS = torch.zeros(size, dtype=torch.long)
    thought_ids_BS = torch.zeros(size, dtype=torch.long)
    weights_BS = torch.ones(size)
    valid_BS = torch.zeros(size, dtype=torch.bool)
    for row, example in enumerate(examples):
        flat = 0
        positions, thought_ids = example.graph.positions(), example.graph.thought_ids()
        for i, tokens in enumerate(example.tokens):
            here = slice(starts[i], starts[i] + len(tokens))
            there = slice(flat, flat + len(tokens))
            input_ids_BS[row, here] = torch.tensor(tokens)
            labels_BS[row, here] = torch.tensor(example.labels[i])
            positions_BS[row, here] = torch.tensor(positions[there])
            thought_ids_BS[row, here] = torch.tensor(thought_ids[there])
            if example.graph.segments[i].kind is Kind.SUMMARY:
                weights_BS[row, here] = summary_weight
            valid_BS[row, here] = True
            flat += len(tokens)

    layouts = []
    for group in groups:
        context = examples[0].graph.visible(group[0])
        mask = None
        if context:
            seen_BC = torch.cat([valid_BS[:, starts[j] : starts[j + 1]] for j in context], dim=1)
            # Right padding inside the own segment comes after every real query: causal hides it.
            width = widths[group[0]]
            own_WW = torch.ones(width, width, dtype=torch.bool).tril()
            mask = torch.cat(
                [
                    seen_BC[:, None].expand(-1, width, -1),
                    own_WW[None].expand(len(examples), -1, -1),
                ],
                dim=2,
            )
        layouts.append(GroupLayout(group, context, mask))
    return {
        "input_ids": input_ids_BS,
        "position_ids": positions_BS,
        "thought_ids": thought_ids_BS,
        "shift_labels": labels_BS,
        "loss_weights": weights_BS,
        "thought_layout": BatchLayout(tuple(widths), tuple(layouts)),
    }


def _shape(graph: ThoughtGraph) -> list[tuple[Kind, tuple[int, ...]]]:
    return [(s.kind, s.parents) for s in graph.segments]
