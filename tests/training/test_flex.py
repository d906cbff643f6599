"""FlexAttention's mask is the graph's, and its forward the structured one's.

It has no backward on the CPU, and what it compiles to on CUDA is not tested here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import MODEL_INPUTS, any_example, row_mask, rows_of_graphs
from torch.nn.attention.flex_attention import create_mask

from parathinker.graph import ThoughtGraph
from parathinker.prompt import PromptCodec
from parathinker.training import flex
from parathinker.training.batch import pack
from parathinker.training.layout import lay_out
from parathinker.training.model import load_model

CPU = torch.device("cpu")


@given(rows_of_graphs(), st.sampled_from([0, 2, 50]))
def test_its_mask_is_that_of_the_graphs(graphs: list[ThoughtGraph], slack: int) -> None:
    layout = lay_out(graphs, slack)
    if not layout.length:
        return
    size = layout.length
    shown = create_mask(flex.mask_mod(layout, CPU), None, None, size, size, device="cpu")[0, 0]
    expected = row_mask(graphs, layout)
    is_token = expected.diagonal()
    assert torch.equal(shown[is_token], expected[is_token])
    assert shown.diagonal().all(), "padding sees something, so that softmax has something to share"


def test_blocks_that_nobody_sees_are_skipped() -> None:
    graph = ThoughtGraph.parallel(128, [(i, 256) for i in range(1, 9)], 128)
    mask = flex.block_mask(lay_out([graph, graph]), CPU)
    # Of each example: 1 block of the prompt on itself; 2 a path on the prompt, 3 on itself; 18 of
    # the summary.
    assert int(mask.to_dense().sum()) == 2 * (1 + 8 * (2 + 3) + 18)


@pytest.mark.parametrize("slack", [0, 100])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_its_forward_equals_structured_attention(
    random_model: Callable[..., Path], model_type: str, slack: int
) -> None:
    folder = random_model(model_type)
    codec, rng = PromptCodec.from_folder(folder), random.Random(0)
    shapes = (3, True), (1, False), (3, True)
    row = pack([any_example(codec, rng, *shape) for shape in shapes], pad_id=0, slack=slack)
    inputs = {name: row[name] for name in (*MODEL_INPUTS, "thought_layout")}
    structured, _ = load_model(folder)
    flexible, _ = load_model(folder, attn_implementation=flex.NAME)
    with torch.no_grad():
        mine, theirs = flexible(**inputs).logits, structured(**inputs).logits
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_it_says_when_the_layout_is_missing(random_model: Callable[..., Path]) -> None:
    model, _ = load_model(random_model("llama"), attn_implementation=flex.NAME)
    with pytest.raises(ValueError, match=r"'thought_graph_flex' needs thought_layout="):
        model(input_ids=torch.tensor([[1, 2]]))
