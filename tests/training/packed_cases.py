"""Packed rows to test with: graphs of any shapes, the row's dense mask, small examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from parathinker.data.schema import Example, PathText
from parathinker.graph import ThoughtGraph
from parathinker.modeling.masks import dense_mask
from parathinker.prompt import PromptCodec
from parathinker.training.batch import IGNORED, EncodedExample, encode_example
from parathinker.training.layout import RowLayout
from test_graph import graphs

MODEL_INPUTS = "input_ids", "position_ids", "thought_ids"


@st.composite
def rows_of_graphs(draw: Any) -> list[ThoughtGraph]:
    """One to five graphs; some have one shape and other lengths, which is what can be stacked."""
    shapes = draw(st.lists(graphs, min_size=1, max_size=2))
    picked = draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=5))
    return [
        ThoughtGraph([replace(s, length=draw(st.integers(0, 9))) for s in shape.segments])
        for shape in picked
    ]


def token_columns(layout: RowLayout, example: int) -> Tensor:
    """The columns of one example's tokens, in the order of its graph."""
    spans = [span for span in layout.spans if span.example == example]
    return torch.tensor([c for s in spans for c in range(s.start, s.start + s.length)]).long()


def row_mask(graphs: Sequence[ThoughtGraph], layout: RowLayout) -> Tensor:
    """Bool [S, S]: each graph's own dense mask at its columns; padding sees nothing."""
    mask = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    for example, graph in enumerate(graphs):
        columns = token_columns(layout, example)
        mask[columns[:, None], columns] = dense_mask(graph)
    return mask


def any_text(rng: random.Random) -> str:
    return "".join(rng.choice("0123456789+= ab") for _ in range(rng.randint(1, 23)))


def any_example(
    codec: PromptCodec, rng: random.Random, paths: int, summary: bool = True
) -> EncodedExample:
    """Prompt, paths and summary all of other lengths."""
    texts = tuple(PathText(any_text(rng)) for _ in range(paths))
    example = Example(any_text(rng) + "?", texts, any_text(rng) if summary else None)
    return encode_example(example, codec, rng)


def alone(example: EncodedExample) -> dict[str, Any]:
    """One example on its own, flat: what the dense mask is defined for."""
    return {
        "input_ids": torch.tensor([[t for s in example.tokens for t in s]]),
        "position_ids": torch.tensor([example.graph.positions()]),
        "thought_ids": torch.tensor([example.graph.thought_ids()]),
        "shift_labels": torch.tensor([[x for s in example.labels for x in s]]),
    }


def labelled_loss(model: Any, batch: dict[str, Any], **extra: Any) -> Tensor:
    """Mean cross-entropy of the labelled positions, all logits at once."""
    inputs = {name: batch[name] for name in MODEL_INPUTS}
    logits = model(**inputs, use_cache=False, **extra).logits
    return F.cross_entropy(
        logits.flatten(0, 1), batch["shift_labels"].flatten(), ignore_index=IGNORED
    )


def labelled(example: EncodedExample) -> int:
    """How many positions have a label."""
    return sum(label != IGNORED for part in example.labels for label in part)


def gradients(model: Any) -> dict[str, Tensor]:
    """Of every parameter that has one."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
