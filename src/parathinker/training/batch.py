"""Examples → graphs → one packed row with positions, thought ids, labels and loss weights.

A batch is one row, whatever the shapes of its examples: numbers of paths may differ, summaries be
there or not. ``layout.py`` says where everything stands and what may be padded.
"""

# Shapes: S columns of the row.

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from parathinker.data.schema import Example, PathText
from parathinker.errors import UsageError
from parathinker.graph import Kind, ThoughtGraph
from parathinker.prompt import PromptCodec
from parathinker.training.layout import lay_out

IGNORED = -100
"""Label of a position that the loss leaves out (PyTorch's and transformers' convention)."""
AGAIN = "\nWait\n"
"""Between the paths of an example where they become one chain: what budget forcing writes, too."""


@dataclass(frozen=True)
class EncodedExample:
    """An example as segments of token ids, in the order of its graph."""

    graph: ThoughtGraph
    tokens: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[int, ...], ...]
    """For each token the next one in its segment, or ``IGNORED``; never across segments."""


def encode_example(
    example: Example,
    codec: PromptCodec,
    rng: random.Random,
    summary_prefix: str = "",
    chain: bool = False,
) -> EncodedExample:
    """Tokenise one example; paths without a thought id get random ones out of all that exist.

    The loss covers what the model writes itself: the text and closing token of paths to learn and
    of the summary, not the forced ``<think i>``, ``<summary>`` and summary prefix.

    Args:
        chain: make one path of all, each going on from the one before behind ``AGAIN``; it has the
            thought id of the first, or 1.

    Raises:
        UsageError: more paths than the vocabulary has control tokens for, a thought id it has no
            token for, or one id twice.
    """
    control = codec.control
    paths = [example.paths] if chain else [(path,) for path in example.paths]
    if len(paths) > control.max_paths:
        raise UsageError(f"an example has {len(paths)} paths; this model has {control.max_paths}")
    named: Sequence[PathText] = example.paths
    if chain:  # it has the id of its first path
        named = [replace(example.paths[0], thought_id=example.paths[0].thought_id or 1)]
    thought_ids = _thought_ids(named, control.max_paths, rng)
    graph = ThoughtGraph()
    prompt = codec.encode_question(example.question)
    root = graph.add(Kind.PROMPT, len(prompt))
    tokens, labels = [prompt], [[IGNORED] * len(prompt)]
    for thought_id, parts in zip(thought_ids, paths, strict=True):
        opening, closing = control.opens[thought_id - 1], control.closes[thought_id - 1]
        body, learned = _joined(parts, codec)
        path_tokens = [opening, *body, closing]
        graph.add(Kind.PATH, len(path_tokens), (root,), thought_id)
        tokens.append(path_tokens)
        # A chain learns to go on behind any attempt, and so to stop behind any.
        closes = chain or parts[-1].learn
        labels.append(_next_tokens(path_tokens, [False, *learned, closes]))
    if example.summary is not None:
        opening_tokens = [control.summary_open, *codec.encode_text(summary_prefix)]
        body = [*codec.encode_text(example.summary), control.summary_close]
        own = [False] * len(opening_tokens) + [True] * len(body)
        everything = tuple(range(len(paths)))
        for reading in (not chain and example.readings) or (everything,):
            heads = [root + 1 + i for i in reading]
            graph.add(Kind.SUMMARY, len(opening_tokens) + len(body), (root, *heads))
            tokens.append(opening_tokens + body)
            labels.append(_next_tokens(tokens[-1], own))
    return EncodedExample(graph, tuple(map(tuple, tokens)), tuple(map(tuple, labels)))


def _thought_ids(paths: Sequence[PathText], max_paths: int, rng: random.Random) -> list[int]:
    """The paths' own ids, and for those without one any that are left."""
    given = [path.thought_id for path in paths if path.thought_id is not None]
    if len(set(given)) < len(given) or any(not 1 <= i <= max_paths for i in given):
        raise UsageError(f"thought ids should be different and at most {max_paths}, got {given}")
    free = [i for i in range(1, max_paths + 1) if i not in given]
    drawn = iter(rng.sample(free, len(paths) - len(given)))
    return [next(drawn) if path.thought_id is None else path.thought_id for path in paths]


def _joined(parts: Sequence[PathText], codec: PromptCodec) -> tuple[list[int], list[bool]]:
    """Tokens of texts one behind another, and which of them are to be learned."""
    tokens: list[int] = []
    learned: list[bool] = []
    for i, part in enumerate(parts):
        between = codec.encode_text(AGAIN) if i else []
        given = codec.encode_text(part.text[: part.given]) if part.given else []
        text = codec.encode_text(part.text[part.given :])
        tokens += [*between, *given, *text]
        learned += [True] * len(between) + [False] * len(given) + [part.learn] * len(text)
    return tokens, learned


def _next_tokens(tokens: list[int], learned: list[bool]) -> list[int]:
    """Labels: position t predicts token t + 1, where the model is to learn to write it."""
    later = zip(tokens[1:], learned[1:], strict=True)
    return [*(token if learn else IGNORED for token, learn in later), IGNORED]


def pack(
    examples: Sequence[EncodedExample], pad_id: int, summary_weight: float = 1.0, slack: int = 0
) -> dict[str, object]:
    """One row of many examples; none sees another.

    Args:
        slack: padding that stacking alike examples may cost, in tokens a segment; see
            :func:`~parathinker.training.layout.lay_out`. 0 packs without padding.

    Returns:
        ``input_ids``, ``position_ids``, ``thought_ids``, ``shift_labels``: int64 [1, S];
        ``loss_weights``: float32 [1, S], 1 on paths and ``summary_weight`` on summaries;
        ``thought_layout``: the :class:`~parathinker.training.layout.RowLayout`.
    """
    layout = lay_out([example.graph for example in examples], slack)
    input_ids_S = torch.full((layout.length,), pad_id)
    labels_S = torch.full((layout.length,), IGNORED)
    positions_S = torch.zeros(layout.length, dtype=torch.long)
    thought_ids_S = torch.zeros(layout.length, dtype=torch.long)
    weights_S = torch.ones(layout.length)
    spans = iter(layout.spans)
    for example in examples:
        ends = accumulate(segment.length for segment in example.graph.segments)
        positions = example.graph.positions()
        for i, (segment, end) in enumerate(zip(example.graph.segments, ends, strict=True)):
            start = next(spans).start
            here = slice(start, start + segment.length)
            input_ids_S[here] = torch.tensor(example.tokens[i], dtype=torch.long)
            labels_S[here] = torch.tensor(example.labels[i], dtype=torch.long)
            positions_S[here] = torch.tensor(positions[end - segment.length : end])
            thought_ids_S[here] = segment.thought_id
            if segment.kind is Kind.SUMMARY:
                weights_S[here] = summary_weight
    return {
        "input_ids": input_ids_S[None],
        "position_ids": positions_S[None],
        "thought_ids": thought_ids_S[None],
        "shift_labels": labels_S[None],
        "loss_weights": weights_S[None],
        "thought_layout": layout,
    }
