"""Thought embeddings on stock transformers models: added where and as the released code does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from parathinker import CheckpointError, UsageError
from parathinker.modeling.thought_embedding import (
    attach_thought_embeddings,
    is_thought_embedding,
    load_thought_embeddings,
)
from tiny_models import build_model

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral")
TOKENS = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(0))
THOUGHTS = torch.tensor([[0, 0, 1, 1, 5, 5, 31, 0, 0], [2, 2, 2, 0, 0, 0, 7, 7, 7]])


def attached(model_type: str, std: float = 0.5):
    torch.manual_seed(7)
    return attach_thought_embeddings(build_model(model_type), std=std)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_zero_tables_leave_the_model_as_it_was(model_type):
    plain, model = build_model(model_type), attached(model_type, std=0.0)
    with torch.no_grad():
        assert torch.equal(model(TOKENS, thought_ids=THOUGHTS).logits, plain(TOKENS).logits)


class AddAfter(nn.Module):
    """A module whose output gets one vector added to every head."""

    def __init__(self, inner: nn.Module, vector_D: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.vector_D = inner, vector_D

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.inner(x)
        heads = out.shape[-1] // self.vector_D.shape[0]
        return out + self.vector_D.repeat(heads)


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_row_is_added_to_every_heads_key_before_rotation_and_to_its_value(model_type, row):
    """With one thought id for all tokens, it is a constant behind k_proj (k_norm) and v_proj."""
    model, by_hand = attached(model_type), build_model(model_type)
    for layer, other in zip(model.model.layers, by_hand.model.layers, strict=True):
        vector = layer.self_attn.seg_embeddings.weight[row].detach()
        attention = other.self_attn
        attention.v_proj = AddAfter(attention.v_proj, vector)
        if hasattr(attention, "k_norm"):
            attention.k_norm = AddAfter(attention.k_norm, vector)
        else:
            attention.k_proj = AddAfter(attention.k_proj, vector)
    with torch.no_grad():
        given = model(TOKENS, thought_ids=torch.full_like(TOKENS, row)).logits
        assert torch.allclose(given, by_hand(TOKENS).logits, atol=1e-5)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_without_thought_ids_every_token_counts_as_zero_even_after_other_calls(model_type):
    model = attached(model_type)
    with torch.no_grad():
        zeros = model(TOKENS, thought_ids=torch.zeros_like(TOKENS)).logits
        other = model(TOKENS, thought_ids=THOUGHTS).logits
        assert torch.allclose(model(TOKENS).logits, zeros, atol=1e-6)
    assert (other - zeros).abs().max() > 0.1


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_saved_folder_opens_in_stock_transformers_and_gets_its_tables_back(model_type, tmp_path):
    model = attached(model_type)
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.equal(stock(TOKENS).logits, build_model(model_type)(TOKENS).logits)
    assert load_thought_embeddings(stock, tmp_path)
    with torch.no_grad():
        assert torch.equal(
            stock(TOKENS, thought_ids=THOUGHTS).logits, model(TOKENS, thought_ids=THOUGHTS).logits
        )


def test_a_folder_without_tables_attaches_nothing(tmp_path):
    model = build_model()
    model.save_pretrained(tmp_path)
    assert not load_thought_embeddings(model, tmp_path)
    assert not any(is_thought_embedding(name) for name, _ in model.named_parameters())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_gradient_checkpointing_gives_the_same_gradients(model_type, reentrant):
    def gradients(model) -> dict[str, torch.Tensor]:
        model.train()
        for ids, thoughts in ((TOKENS, THOUGHTS), (TOKENS.flip(1), THOUGHTS.flip(0))):
            model(ids, thought_ids=thoughts, labels=ids, use_cache=False).loss.backward()
        return {name: p.grad for name, p in model.named_parameters()}

    plain, saving = attached(model_type), attached(model_type)
    saving.gradient_checkpointing_enable({"use_reentrant": reentrant})
    expected, found = gradients(plain), gradients(saving)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name
        if is_thought_embedding(name):
            rows = gradient.abs().sum(-1).nonzero().flatten().tolist()
            assert rows == [0, 1, 2, 5, 7, 31]


def test_tables_are_attached_once_and_to_supported_architectures_only():
    model = attached("llama")
    with pytest.raises(UsageError, match="already"):
        attach_thought_embeddings(model)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10))
    with pytest.raises(UsageError, match=r"'gpt2'.*llama, mistral, qwen2, qwen3"):
        attach_thought_embeddings(gpt2)


def test_the_number_of_rows_can_be_chosen():
    model = attach_thought_embeddings(build_model(), rows=17)
    tables = [p for n, p in model.named_parameters() if is_thought_embedding(n)]
    assert [tuple(t.shape) for t in tables] == [(17, 16)] * 2


def test_a_table_of_another_head_size_is_refused(tmp_path):
    attached("llama").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"\[32, 16\], expected \[32, 8\]"):
        load_thought_embeddings(
            build_model(hidden_size=32, num_attention_heads=4, head_dim=8), tmp_path
        )
