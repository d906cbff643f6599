"""The chunked loss is the plain loss, in value and gradients, without all of the logits."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import MODEL_INPUTS, any_example, gradients
from test_structured_attention import LargestTensor
from torch import Tensor

from parathinker.modeling.adapter import TrainedRows, add_adapter, trained_rows
from parathinker.prompt import PromptCodec
from parathinker.tokens import ControlTokens
from parathinker.training import loss as chunked
from parathinker.training.batch import IGNORED, pack
from parathinker.training.loss import loss_parts, packed_loss, weighted_cross_entropy
from parathinker.training.model import load_model

WORDS, HIDDEN = 50, 12


def operands(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, output head, labels and weights."""
    torch.manual_seed(seed)
    hidden = torch.randn(rows, HIDDEN, requires_grad=True)
    head = torch.randn(WORDS, HIDDEN, requires_grad=True)
    return hidden, head, torch.randint(WORDS, (rows,)), torch.rand(rows) * 3


@given(st.integers(0, 40), st.integers(1, 45), st.integers(0, 3))
def test_it_equals_the_plain_loss_and_its_gradients(rows: int, chunk: int, seed: int) -> None:
    hidden, head, labels, weights = operands(rows, seed)
    total, losses = weighted_cross_entropy(hidden, head, labels, weights, chunk * WORDS)
    plain = F.cross_entropy(hidden @ head.T, labels, reduction="none")
    torch.testing.assert_close(losses, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total, (plain * weights).sum(), atol=1e-4, rtol=1e-5)
    assert not losses.requires_grad
    mine = torch.autograd.grad(total / 7, (hidden, head))
    theirs = torch.autograd.grad((plain * weights).sum() / 7, (hidden, head))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 40), st.integers(1, 45), st.sets(st.integers(0, WORDS - 1), min_size=1))
def test_rows_that_alone_are_trained_stand_in_the_place_of_the_heads(
    rows: int, chunk: int, words: set[int]
) -> None:
    hidden, head, labels, weights = operands(rows)
    index = torch.tensor(sorted(words))
    own = torch.randn(len(words), HIDDEN, requires_grad=True)
    trained = TrainedRows(head, index, own)
    total, losses = weighted_cross_entropy(
        hidden, head, labels, weights, chunk * WORDS, trained=trained
    )
    whole = head.detach().index_copy(0, index, own)
    plain = F.cross_entropy(hidden @ whole.T, labels, reduction="none")
    torch.testing.assert_close(losses, plain, atol=1e-5, rtol=1e-5)
    mine = torch.autograd.grad(total, (hidden, own, head), allow_unused=True)
    theirs = torch.autograd.grad((plain * weights).sum(), (hidden, own))
    torch.testing.assert_close(mine[:2], theirs, atol=1e-5, rtol=1e-5)
    assert mine[2] is None


def test_a_frozen_head_costs_no_gradient_and_no_grad_costs_none() -> None:
    hidden, head, labels, weights = operands(9)
    total, _ = weighted_cross_entropy(hidden, head.detach(), labels, weights)
    total.backward()
    assert hidden.grad is not None
    assert head.grad is None
    with torch.no_grad():
        again, _ = weighted_cross_entropy(hidden, head, labels, weights)
    assert again.item() == total.item()
    assert not again.requires_grad


def test_it_goes_backward_once() -> None:
    total, _ = weighted_cross_entropy(*operands(9))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        total.backward()


def test_far_logits_neither_overflow_nor_vanish() -> None:
    hidden, head, labels, weights = operands(9)
    total, losses = weighted_cross_entropy(hidden * 1e4, head, labels, weights)
    assert losses.isfinite().all()
    total.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_in_bfloat16_losses_are_summed_in_float32() -> None:
    hidden, head, labels, weights = operands(4000)
    exact, _ = weighted_cross_entropy(hidden, head, labels, weights)
    (expected,) = torch.autograd.grad(exact, head)
    with torch.autocast("cpu", torch.bfloat16):
        half, losses = weighted_cross_entropy(hidden, head, labels, weights, 100 * WORDS)
    (gradient,) = torch.autograd.grad(half, head)
    assert losses.dtype == half.dtype == gradient.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=1e-3)
    assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), 0) > 0.9999


def test_no_more_logits_exist_at_once_than_asked_for() -> None:
    hidden, head, labels, weights = operands(1000)
    with LargestTensor() as largest:
        weighted_cross_entropy(hidden, head, labels, weights, 400 * WORDS)[0].backward()
    assert largest.numbers == 400 * WORDS > hidden.numel()
    with LargestTensor() as largest:
        F.cross_entropy(hidden @ head.T, labels).backward()
    assert largest.numbers == 1000 * WORDS


MEMORY = """
import sys
import torch
import torch.nn.functional as F
from parathinker.training.loss import weighted_cross_entropy

torch.set_num_threads(1)
rows, words, hidden = 4096, 20_000, 32
h = torch.randn(rows, hidden, requires_grad=True)
head = torch.randn(words, hidden, requires_grad=True)
labels, weights = torch.randint(words, (rows,)), torch.ones(rows)

def step(h, labels, weights):
    if sys.argv[1] == "chunked":
        total, _ = weighted_cross_entropy(h, head, labels, weights, 64 * words)
    else:
        total = F.cross_entropy(h @ head.T, labels, reduction="sum")
    total.backward()

step(h[:64], labels[:64], weights[:64])


def memory(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1])

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is measured anew
before = memory("VmRSS")
step(h, labels, weights)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_processs_memory_grows_by_chunks_not_by_logits() -> None:
    grown = {}
    for how in ("chunked", "plain"):
        command = [sys.executable, "-c", MEMORY, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        grown[how] = float(done.stdout) / 1024  # MB
    logits = 4096 * 20_000 * 4 / 2**20
    assert grown["plain"] > 1.5 * logits
    assert grown["chunked"] < logits / 4


def batch_for(folder: Path, summary_weight: float = 3.0) -> dict[str, Any]:
    codec, rng = PromptCodec.from_folder(folder), random.Random(0)
    shapes = (3, True), (1, False), (2, True)
    return pack([any_example(codec, rng, *s) for s in shapes], 0, summary_weight, slack=100)


def plain_loss(model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Weighted sum over labelled positions, and each position's loss, from all logits."""
    inputs = {name: batch[name] for name in (*MODEL_INPUTS, "thought_layout")}
    losses = F.cross_entropy(
        model(**inputs, use_cache=False).logits[0],
        batch["shift_labels"][0],
        ignore_index=IGNORED,
        reduction="none",
    )
    return (losses * batch["loss_weights"][0]).sum(), losses


@pytest.mark.parametrize("tied", [True, False])
def test_through_a_model_it_equals_the_plain_loss(
    random_model: Callable[..., Path], tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = random_model("llama", tied=tied)
    monkeypatch.setattr(chunked, "CHUNK_NUMBERS", 3000)  # several chunks
    batch = batch_for(folder)
    model, _ = load_model(folder)
    expected, losses = plain_loss(model, batch)
    expected.backward()
    theirs = gradients(model)
    model.zero_grad()
    total, parts = packed_loss(model, batch)
    total.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    mine = gradients(model)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=1e-4, rtol=1e-4, msg=name)
    of_path = batch["thought_ids"][0] > 0
    labelled = batch["shift_labels"][0] != IGNORED
    assert parts.paths.item() == pytest.approx(losses[of_path].sum().item(), rel=1e-5)
    assert parts.summary.item() == pytest.approx(losses[~of_path].sum().item(), rel=1e-5)
    assert int(parts.path_tokens) == int((of_path & labelled).sum())
    assert int(parts.summary_tokens) == int((~of_path & labelled).sum())


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_through_an_adapter_it_equals_the_plain_loss(
    random_model: Callable[..., Path], tied: bool, sharded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = random_model("llama", tied=tied)
    monkeypatch.setattr(chunked, "CHUNK_NUMBERS", 3000)  # several chunks
    batch = batch_for(folder)
    model, tokenizer = load_model(folder)
    control = ControlTokens.find(tokenizer.get_vocab())
    adapted = add_adapter(model, control, 4, 8.0, 0.0, ("q_proj", "down_proj"))
    causal_lm = adapted.get_base_model()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "trainable_tokens" in name:  # updates start from zero
            torch.nn.init.normal_(weight, std=0.1)
        if sharded:  # as DeepSpeed marks what it holds in parts
            weight.ds_id = 0
    assert (trained_rows(causal_lm.get_output_embeddings()) is None) == sharded
    expected, _ = plain_loss(adapted, batch)
    expected.backward()
    theirs = gradients(adapted)
    adapted.zero_grad()
    total, _ = packed_loss(adapted, batch, causal_lm)
    total.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    mine = gradients(adapted)
    assert any("trainable_tokens" in name for name in mine)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=1e-4, rtol=1e-4, msg=name)


def test_the_head_gives_logits_again_afterwards(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama")
    model, _ = load_model(folder)
    batch = batch_for(folder)
    with torch.no_grad():
        packed_loss(model, batch)
        assert plain_loss(model, batch)[1].shape == batch["shift_labels"][0].shape
    assert "forward" not in vars(model.lm_head)
    with pytest.raises(ValueError, match="thought_layout"):
        packed_loss(model, {k: v for k, v in batch.items() if k != "thought_layout"})
    assert "forward" not in vars(model.lm_head)


def test_a_head_that_is_no_plain_matrix_is_called_as_it_is(
    random_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter around the head, for instance, whose update the head's weight does not hold."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.update = torch.nn.Linear(base.in_features, base.out_features)

        def forward(self, hidden: Tensor) -> Tensor:
            return self.base(hidden) + self.update(hidden)

    monkeypatch.setattr(chunked, "CHUNK_NUMBERS", 3000)
    folder = random_model("llama", tied=False)
    batch = batch_for(folder)
    model, _ = load_model(folder)
    torch.manual_seed(0)
    model.lm_head = Adapted(model.lm_head)
    expected, _ = plain_loss(model, batch)
    expected.backward()
    theirs = gradients(model)
    model.zero_grad()
    total, _ = packed_loss(model, batch)
    total.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert any("update" in name for name in theirs)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-4, rtol=1e-4, msg=name)


def test_a_batch_without_labels_loses_nothing(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama")
    batch = batch_for(folder)
    model, _ = load_model(folder)
    batch["shift_labels"] = torch.full_like(batch["shift_labels"], IGNORED)
    total, parts = packed_loss(model, batch)
    total.backward()
    assert total.item() == 0
    assert all(not gradient.any() for gradient in gradients(model).values())
    assert int(parts.path_tokens) == int(parts.summary_tokens) == 0


def test_parts_of_several_batches_add_up() -> None:
    one = loss_parts(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 3, 1]))
    both = one + loss_parts(torch.tensor([8.0]), torch.tensor([0]))
    figures = both.paths, both.path_tokens, both.summary, both.summary_tokens
    assert [float(x) for x in figures] == [6, 2, 9, 2]
