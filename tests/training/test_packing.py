"""Many examples in one row: every pair that may see each other does, once, and no other."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import (
    alone,
    any_example,
    gradients,
    labelled,
    labelled_loss,
    row_mask,
    rows_of_graphs,
    token_columns,
)
from torch import Tensor

from parathinker.graph import ThoughtGraph
from parathinker.modeling.masks import additive_mask
from parathinker.prompt import PromptCodec
from parathinker.training.batch import IGNORED, EncodedExample, pack
from parathinker.training.layout import Block, lay_out
from parathinker.training.model import load_model


def runs(block: Block) -> list[Tensor]:
    return [
        torch.arange(block.start + i * block.stride, block.start + i * block.stride + block.width)
        for i in range(block.count)
    ]


@given(rows_of_graphs(), st.sampled_from([0, 2, 50]))
def test_pieces_cover_what_the_masks_show_exactly_once(
    graphs: list[ThoughtGraph], slack: int
) -> None:
    layout = lay_out(graphs, slack)
    mask = row_mask(graphs, layout)
    is_token = mask.diagonal()
    times = torch.zeros(mask.shape, dtype=torch.long)
    begun = torch.zeros(layout.length, dtype=torch.long)
    for piece in layout.pieces:
        for queries, keys in zip(runs(piece.queries), runs(piece.keys), strict=True):
            seen = torch.ones(len(queries), len(keys), dtype=torch.long)
            if piece.causal:
                assert torch.equal(queries, keys)
                begun[queries] += 1
                seen = seen.tril()
            else:
                assert (begun[queries] == 1).all(), "causal pieces come first"
                assert piece.padded or is_token[keys].all()
                seen = seen * is_token[keys]
            times[queries[:, None], keys] += seen
    assert (begun == 1).all()
    assert torch.equal(times[is_token][:, is_token], mask[is_token][:, is_token].long())
    assert not times[is_token][:, ~is_token].any()


@given(rows_of_graphs())
def test_without_slack_nothing_is_padded(graphs: list[ThoughtGraph]) -> None:
    layout = lay_out(graphs, slack=0)
    assert layout.length == sum(graph.length for graph in graphs)
    assert not any(piece.padded for piece in layout.pieces)


@given(rows_of_graphs(), st.integers(0, 9))
def test_padding_stays_within_the_slack(graphs: list[ThoughtGraph], slack: int) -> None:
    layout = lay_out(graphs, slack)
    padding = layout.length - sum(graph.length for graph in graphs)
    assert padding <= slack * len(layout.spans)


def test_alike_examples_share_pieces_however_many_there_are() -> None:
    few, many = (
        lay_out([ThoughtGraph.parallel(9 + i % 3, [(1, 20), (2, 20)], 5) for i in range(n)], 8)
        for n in (3, 30)
    )
    assert len(few.pieces) == len(many.pieces) == 6


def packed_and_alone(
    folder: Path, batch: list[EncodedExample], slack: int
) -> tuple[Any, dict[str, Tensor], list[Tensor], Tensor]:
    """The model after a packed backward, the row, each example's embeddings' gradient and loss."""
    model, _ = load_model(folder)
    row = pack(batch, pad_id=0, slack=slack)
    embedded = model.get_input_embeddings()(row["input_ids"]).detach().requires_grad_()
    inputs = {name: row[name] for name in ("position_ids", "thought_ids", "thought_layout")}
    logits = model(inputs_embeds=embedded, use_cache=False, **inputs).logits[0]
    labels = row["shift_labels"][0]  # type: ignore[index]
    losses = []
    for i in range(len(batch)):
        columns = token_columns(row["thought_layout"], i)  # type: ignore[arg-type]
        losses.append(
            torch.nn.functional.cross_entropy(
                logits[columns], labels[columns], ignore_index=IGNORED
            )
        )
    return model, row, losses, embedded  # type: ignore[return-value]


@pytest.mark.parametrize("slack", [0, 100])
def test_an_examples_loss_has_no_gradient_in_another_examples_embeddings(
    random_model: Callable[..., Path], slack: int
) -> None:
    folder = random_model("llama")
    codec, rng = PromptCodec.from_folder(folder), random.Random(0)
    shapes = (3, True), (3, True), (1, False), (8, True)
    batch = [any_example(codec, rng, *shape) for shape in shapes]
    _, row, losses, embedded = packed_and_alone(folder, batch, slack)
    for i, loss in enumerate(losses):
        (gradient,) = torch.autograd.grad(loss, embedded, retain_graph=True)
        columns = token_columns(row["thought_layout"], i)  # type: ignore[arg-type]
        assert gradient[0, columns].abs().max() > 1e-3
        gradient[0, columns] = 0
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("slack", [0, 100])
def test_losses_and_gradients_of_a_row_are_those_of_its_examples_alone(
    random_model: Callable[..., Path], slack: int
) -> None:
    folder = random_model("qwen3")
    codec, rng = PromptCodec.from_folder(folder), random.Random(1)
    shapes = (2, True), (4, False), (1, True), (2, True), (2, False)
    batch = [any_example(codec, rng, *shape) for shape in shapes]
    model, _, losses, _ = packed_and_alone(folder, batch, slack)
    sum(losses).backward()  # type: ignore[union-attr]
    dense, _ = load_model(folder, attn_implementation="eager")
    for example, loss in zip(batch, losses, strict=True):
        expected = labelled_loss(dense, alone(example), attention_mask=additive_mask(example.graph))
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    mine, theirs = gradients(model), gradients(dense)
    for name in mine.keys() - {"model.embed_tokens.weight"}:
        torch.testing.assert_close(mine[name], theirs[name], atol=1e-5, rtol=1e-4, msg=name)


def test_labels_and_tokens_arrive_with_their_positions(tiny_random_model: Path) -> None:
    codec, rng = PromptCodec.from_folder(tiny_random_model), random.Random(2)
    batch = [any_example(codec, rng, paths, paths != 2) for paths in (1, 2, 2, 5)]
    for slack in 0, 3, 100:
        row = pack(batch, pad_id=7, slack=slack)
        used = []
        for i, example in enumerate(batch):
            columns = token_columns(row["thought_layout"], i)  # type: ignore[arg-type]
            used += columns.tolist()
            for name, expected in alone(example).items():
                assert torch.equal(row[name][0, columns], expected[0]), name  # type: ignore[index]
        padding = sorted(set(range(row["thought_layout"].length)) - set(used))  # type: ignore[attr-defined]
        assert set(row["input_ids"][0, padding].tolist()) <= {7}  # type: ignore[index]
        assert set(row["shift_labels"][0, padding].tolist()) <= {IGNORED}  # type: ignore[index]
        assert sum(map(labelled, batch)) == int((row["shift_labels"] != IGNORED).sum())  # type: ignore[union-attr, attr-defined, call-overload]
