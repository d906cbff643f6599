"""Structured attention equals the dense-mask reference, forward and backward."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_cases import (
    MODEL_INPUTS,
    alone,
    any_example,
    gradients,
    labelled,
    labelled_loss,
    row_mask,
    rows_of_graphs,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from parathinker.graph import Kind, ThoughtGraph
from parathinker.modeling.masks import additive_mask
from parathinker.prompt import PromptCodec
from parathinker.training.attention import thought_graph_attention
from parathinker.training.batch import IGNORED, EncodedExample, pack
from parathinker.training.kernels import CpuFlash, Plain, Rectangle, choose_kernel
from parathinker.training.layout import RowLayout, lay_out
from parathinker.training.model import load_model

ATOL = 1e-5


def examples(codec: PromptCodec, paths: int, seed: int = 0) -> list[EncodedExample]:
    rng = random.Random(seed)
    return [any_example(codec, rng, paths) for _ in range(3)]


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("paths", [1, 3, 8])
@pytest.mark.parametrize("slack", [0, 100], ids=["packed", "stacked"])
def test_it_equals_the_dense_mask_in_loss_and_gradients(
    random_model: Callable[..., Path], model_type: str, paths: int, slack: int
) -> None:
    folder = random_model(model_type)
    structured, _ = load_model(folder)
    dense, _ = load_model(folder, attn_implementation="eager")
    batch = examples(PromptCodec.from_folder(folder), paths)

    row = pack(batch, pad_id=0, slack=slack)
    loss = labelled_loss(structured, row, thought_layout=row["thought_layout"])
    loss.backward()

    count = sum(map(labelled, batch))
    expected = torch.zeros(())
    for example in batch:
        mask = additive_mask(example.graph)
        part = labelled_loss(dense, alone(example), attention_mask=mask)
        (part * labelled(example) / count).backward()
        expected = expected + part.detach() * labelled(example) / count

    assert loss.item() == pytest.approx(expected.item(), abs=ATOL)
    mine, theirs = gradients(structured), gradients(dense)
    assert mine.keys() == theirs.keys()
    assert any("seg_embeddings" in name for name in mine)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=ATOL, rtol=1e-4, msg=name)


def test_outputs_equal_for_graphs_with_several_rounds(
    random_model: Callable[..., Path],
) -> None:
    folder = random_model("llama")
    structured, _ = load_model(folder)
    dense, _ = load_model(folder, attn_implementation="eager")
    graph = ThoughtGraph()
    prompt = graph.add(Kind.PROMPT, 5)
    first = [graph.add(Kind.PATH, 4, (prompt,), i) for i in (2, 1)]
    middle = graph.add(Kind.SUMMARY, 3, (prompt, *first))
    second = [graph.add(Kind.PATH, 6, (middle,), i) for i in (1, 3)]
    last = graph.add(Kind.SUMMARY, 4, (middle, *second))
    graph.add(Kind.PROMPT, 3, (last,))
    rng = random.Random(3)
    tokens = tuple(tuple(rng.randrange(200) for _ in range(s.length)) for s in graph.segments)
    example = EncodedExample(graph, tokens, tuple((IGNORED,) * len(t) for t in tokens))
    row = pack([example], pad_id=0)
    with torch.no_grad():
        inputs = {name: row[name] for name in MODEL_INPUTS}
        mine = structured(**inputs, thought_layout=row["thought_layout"]).logits
        theirs = dense(**inputs, attention_mask=additive_mask(graph)).logits
    torch.testing.assert_close(mine, theirs, atol=ATOL, rtol=1e-4)


def test_a_wrong_mask_is_noticed(random_model: Callable[..., Path]) -> None:
    """The comparison above can fail: a plain causal mask gives another loss."""
    folder = random_model("llama")
    dense, _ = load_model(folder, attn_implementation="eager")
    example = examples(PromptCodec.from_folder(folder), 3)[0]
    right = labelled_loss(dense, alone(example), attention_mask=additive_mask(example.graph))
    flat = ThoughtGraph.parallel(example.graph.length, [])
    wrong = labelled_loss(dense, alone(example), attention_mask=additive_mask(flat))
    assert abs(right.item() - wrong.item()) > 1e-2


def attend(layout: RowLayout, q_HSD: Tensor, k_KSD: Tensor, v_KSD: Tensor, scale: float) -> Tensor:
    """[S, H, D]"""
    inputs = (x[None] for x in (q_HSD, k_KSD, v_KSD))
    module = torch.nn.Module()
    return thought_graph_attention(module, *inputs, None, scale, thought_layout=layout)[0][0]


def attend_densely(
    mask: Tensor, q_HSD: Tensor, k_KSD: Tensor, v_KSD: Tensor, scale: float
) -> Tensor:
    k, v = (x.repeat_interleave(q_HSD.shape[0] // x.shape[0], 0) for x in (k_KSD, v_KSD))
    scores = (q_HSD @ k.mT * scale).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1).nan_to_num() @ v).transpose(0, 1)


@given(rows_of_graphs(), st.sampled_from([0, 2, 50]), st.sampled_from([(4, 4), (6, 2)]))
@settings(max_examples=40)
def test_any_graphs_packed_in_any_way_attend_as_their_dense_masks_say(
    graphs: list[ThoughtGraph], slack: int, heads: tuple[int, int]
) -> None:
    layout = lay_out(graphs, slack)
    mask = row_mask(graphs, layout)
    torch.manual_seed(0)
    inputs = [
        torch.randn(h, layout.length, 8, dtype=torch.float64, requires_grad=True)
        for h in (heads[0], heads[1], heads[1])
    ]
    is_token = mask.diagonal()
    grad = torch.randn(layout.length, heads[0], 8, dtype=torch.float64) * is_token[:, None, None]
    mine = attend(layout, *inputs, 0.3)
    theirs = attend_densely(mask, *inputs, 0.3)
    assert mine.isfinite().all()
    torch.testing.assert_close(mine[is_token], theirs[is_token], atol=1e-9, rtol=0)
    mine_grads = torch.autograd.grad(mine, inputs, grad)
    for mine_grad, their_grad in zip(
        mine_grads, torch.autograd.grad(theirs, inputs, grad), strict=True
    ):
        torch.testing.assert_close(mine_grad, their_grad, atol=1e-9, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_the_flash_kernel_returns_a_pieces_share_as_plain_products_do(
    causal: bool, biased: bool
) -> None:
    """Backward is given an output and a log-sum-exp that other keys had a part in."""
    torch.manual_seed(0)
    width, keys = 40, 40 if causal else 70
    q, k, v = (torch.randn(2, 3, n, 16, dtype=torch.float64) for n in (width, keys, keys))
    bias = None
    if biased:
        bias = torch.zeros(2, 1, 1, keys, dtype=torch.float64)
        bias[0, ..., 30:] = -torch.inf
    piece = Rectangle(q, k, v, bias, causal, 0.2)
    out, lse, extra = CpuFlash.forward(piece)
    plain_out, plain_lse, _ = Plain.forward(piece)
    torch.testing.assert_close((out, lse), (plain_out, plain_lse), atol=1e-9, rtol=0)
    merged = torch.randn_like(q), lse + torch.rand_like(lse)
    grad = torch.randn_like(q)
    mine = CpuFlash.backward(piece, grad, *merged, extra)
    theirs = Plain.backward(piece, grad, *merged, None)
    torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=0)


def test_what_no_flash_kernel_takes_is_computed_by_plain_products() -> None:
    on = {device: torch.empty(1, 1, 8, device=device) for device in ("cpu", "meta")}
    assert choose_kernel(on["cpu"], padded=True) == (CpuFlash, torch.float32)
    assert choose_kernel(on["cpu"].bfloat16(), padded=False) == (CpuFlash, torch.float32)
    assert choose_kernel(on["meta"].bfloat16(), padded=False) == (Plain, torch.bfloat16)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


def test_no_tensor_is_larger_than_queries_or_keys_forward_and_backward() -> None:
    """So nothing grows with the square of the row; the kernel's own memory is a fixed buffer."""
    graph = ThoughtGraph.parallel(40, [(i, 200 + i) for i in range(1, 9)], 50)
    layout = lay_out([graph, graph])
    inputs = [torch.randn(h, layout.length, 8, requires_grad=True) for h in (4, 2, 2)]
    with LargestTensor() as largest:
        attend(layout, *inputs, 0.3).sum().backward()
    assert largest.numbers == 4 * layout.length * 8


def test_bfloat16_autocast_stays_near(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama")
    model, _ = load_model(folder)
    row = pack(examples(PromptCodec.from_folder(folder), 3), pad_id=0)
    exact = labelled_loss(model, row, thought_layout=row["thought_layout"])
    exact.backward()
    half_model, _ = load_model(folder)
    with torch.autocast("cpu", torch.bfloat16):
        half = labelled_loss(half_model, row, thought_layout=row["thought_layout"])
    half.backward()
    assert half.item() == pytest.approx(exact.item(), rel=0.05)
    for name, gradient in gradients(model).items():
        near = gradients(half_model)[name]
        assert torch.cosine_similarity(near.flatten(), gradient.flatten(), 0) > 0.98, name


def test_activation_checkpointing_changes_no_gradient(
    random_model: Callable[..., Path],
) -> None:
    folder = random_model("llama")
    row = pack(examples(PromptCodec.from_folder(folder), 3), pad_id=0, slack=100)
    found = []
    for checkpointing in (False, True):
        model, _ = load_model(folder)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        labelled_loss(model, row, thought_layout=row["thought_layout"]).backward()
        found.append(gradients(model))
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    for name in plain:
        assert torch.equal(plain[name], checkpointed[name]), name


def test_it_says_what_it_cannot_do(random_model: Callable[..., Path]) -> None:
    model, _ = load_model(random_model("llama"))
    with pytest.raises(ValueError, match="thought_layout"):
        model(input_ids=torch.tensor([[1, 2]]))
    layout = lay_out([ThoughtGraph.parallel(2, [])])
    for shape in (1, 3), (2, 2):
        with pytest.raises(ValueError, match=r"one packed row, here of 2 tokens; got \d of \d"):
            model(input_ids=torch.ones(shape, dtype=torch.long), thought_layout=layout)
    x = torch.ones(1, 1, 2, 8)
    with pytest.raises(ValueError, match=r"no dropout, 0.1 was asked for"):
        thought_graph_attention(model, x, x, x, None, dropout=0.1, thought_layout=layout)
