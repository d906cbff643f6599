"""Structured attention equals the dense-mask reference, forward and backward."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from parathinker.data.schema import Example, PathText
from parathinker.graph import Kind, ThoughtGraph
from parathinker.modeling.masks import additive_mask
from parathinker.prompt import PromptCodec
from parathinker.training.batch import IGNORED, EncodedExample, collate, encode_example
from parathinker.training.model import load_model

ATOL = 1e-5


def examples(codec: PromptCodec, paths: int, seed: int = 0) -> list[EncodedExample]:
    """Three examples whose prompts, paths and summaries all differ in length."""
    rng = random.Random(seed)

    def text() -> str:
        return "".join(rng.choice("0123456789+= ab") for _ in range(rng.randint(1, 23)))

    return [
        encode_example(
            Example(text() + "?", tuple(PathText(text()) for _ in range(paths)), text()), codec, rng
        )
        for _ in range(3)
    ]


def labelled_loss(model: Any, batch: dict[str, Any], **extra: Any) -> torch.Tensor:
    logits = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        thought_ids=batch["thought_ids"],
        use_cache=False,
        **extra,
    ).logits
    return F.cross_entropy(
        logits.flatten(0, 1), batch["shift_labels"].flatten(), ignore_index=IGNORED
    )


def unpadded(example: EncodedExample) -> dict[str, Any]:
    """One example on its own, as a flat sequence: what the dense mask is defined for."""
    return {
        "input_ids": torch.tensor([[t for s in example.tokens for t in s]]),
        "position_ids": torch.tensor([example.graph.positions()]),
        "thought_ids": torch.tensor([example.graph.thought_ids()]),
        "shift_labels": torch.tensor([[x for s in example.labels for x in s]]),
    }


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("paths", [1, 3, 8])
def test_it_equals_the_dense_mask_in_loss_and_gradients(
    random_model: Any, model_type: str, paths: int
) -> None:
    folder: Path = random_model(model_type)
    structured, _ = load_model(folder)
    dense, _ = load_model(folder, attn_implementation="eager")
    batch = examples(PromptCodec.from_folder(folder), paths)

    together = collate(batch, pad_id=0)
    labels = [(x != IGNORED) for e in batch for s in e.labels for x in s]
    loss = labelled_loss(structured, together, thought_layout=together["thought_layout"])
    loss.backward()

    expected = torch.zeros(())
    for example in batch:
        alone = unpadded(example)
        count = int((alone["shift_labels"] != IGNORED).sum())
        mask = additive_mask(example.graph)
        part = labelled_loss(dense, alone, attention_mask=mask) * count / sum(labels)
        part.backward()
        expected = expected + part.detach()

    assert loss.item() == pytest.approx(expected.item(), abs=ATOL)
    mine, theirs = gradients(structured), gradients(dense)
    assert mine.keys() == theirs.keys()
    assert any("seg_embeddings" in name for name in mine)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=ATOL, rtol=1e-4, msg=name)


def test_outputs_equal_for_graphs_with_several_rounds(random_model: Any) -> None:
    folder = random_model("llama")
    structured, _ = load_model(folder)
    dense, _ = load_model(folder, attn_implementation="eager")
    graph = ThoughtGraph()
    prompt = graph.add(Kind.PROMPT, 5)
    first = [graph.add(Kind.PATH, 4, (prompt,), i) for i in (2, 1)]
    middle = graph.add(Kind.SUMMARY, 3, (prompt, *first))
    second = [graph.add(Kind.PATH, 6, (middle,), i) for i in (1, 3)]
    graph.add(Kind.SUMMARY, 4, (middle, *second))
    rng = random.Random(3)
    tokens = tuple(tuple(rng.randrange(200) for _ in range(s.length)) for s in graph.segments)
    example = EncodedExample(graph, tokens, tuple((IGNORED,) * len(t) for t in tokens))
    batch = collate([example], pad_id=0)
    with torch.no_grad():
        inputs = {k: batch[k] for k in ("input_ids", "position_ids", "thought_ids")}
        mine = structured(**inputs, thought_layout=batch["thought_layout"]).logits
        theirs = dense(**inputs, attention_mask=additive_mask(graph)).logits
    torch.testing.assert_close(mine, theirs, atol=ATOL, rtol=1e-4)


def test_a_wrong_mask_is_noticed(random_model: Any) -> None:
    """The comparison above can fail: a plain causal mask gives another loss."""
    folder = random_model("llama")
    dense, _ = load_model(folder, attn_implementation="eager")
    example = examples(PromptCodec.from_folder(folder), 3)[0]
    alone = unpadded(example)
    right = labelled_loss(dense, alone, attention_mask=additive_mask(example.graph))
    flat = ThoughtGraph.parallel(example.graph.length, [])
    wrong = labelled_loss(dense, alone, attention_mask=additive_mask(flat))
    assert abs(right.item() - wrong.item()) > 1e-2


def test_bfloat16_autocast_stays_near(random_model: Any) -> None:
    folder = random_model("llama")
    model, _ = load_model(folder)
    batch = collate(examples(PromptCodec.from_folder(folder), 3), pad_id=0)
    exact = labelled_loss(model, batch, thought_layout=batch["thought_layout"])
    with torch.autocast("cpu", torch.bfloat16):
        half = labelled_loss(copy.deepcopy(model), batch, thought_layout=batch["thought_layout"])
    assert half.item() == pytest.approx(exact.item(), rel=0.05)


def test_it_says_when_the_layout_is_missing(random_model: Any) -> None:
    model, _ = load_model(random_model("llama"))
    with pytest.raises(ValueError, match="thought_layout"):
        model(input_ids=torch.tensor([[1, 2]]))
