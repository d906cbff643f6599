"""Attention over segments equals one softmax over all that the graph lets a token see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parathinker.engine import attention
from parathinker.engine.attention import SegmentAttention, Strand
from parathinker.engine.kv_cache import SiblingCache
from parathinker.modeling.config import DecoderConfig

CPU = torch.device("cpu")
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
CONFIG = DecoderConfig.from_dict(
    {
        "model_type": "llama",
        "vocab_size": 10,
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
    }
)


def softmax_attention(q_HD, k_SKD, v_SKD):
    """One query over all keys, the definition."""
    group = HEADS // KV_HEADS
    out = []
    for head in range(HEADS):
        scores = (k_SKD[:, head // group] @ q_HD[head]) / HEAD_DIM**0.5
        out.append(scores.double().softmax(0) @ v_SKD[:, head // group].double())
    return torch.stack(out).float()


class Recorder:
    """Grows segments at random and remembers every key and value, to compare with."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.caches: dict[str, SiblingCache] = {}
        self.kv: dict[tuple[str, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.random) * 2

    def cache(self, name: str, members: int) -> None:
        self.caches[name] = SiblingCache(CONFIG, members, CPU, torch.float32, capacity=2)
        for member in range(members):
            self.kv[name, member] = []

    def step(self, *strands: tuple[str, int, int, tuple[str, ...]]) -> float:
        """One forward over (cache, members, tokens, context); the largest error over layers."""
        worst = 0.0
        made = [
            Strand(self.caches[name], members, tokens, [self.caches[c] for c in context])
            for name, members, tokens, context in strands
        ]
        operation = SegmentAttention(made, CPU, torch.float32)
        total = sum(members * tokens for _, members, tokens, _ in strands)
        for layer in range(2):
            q, k, v = (self.draw(total, h, HEAD_DIM) for h in (HEADS, KV_HEADS, KV_HEADS))
            at = 0
            for name, members, tokens, _ in strands:
                for member in range(members):
                    for _ in range(tokens):
                        if layer == 0:
                            self.kv[name, member].append(([], []))
                        at += 1
            at = 0
            for name, members, tokens, _ in strands:
                for member in range(members):
                    held = self.kv[name, member]
                    for t in range(tokens):
                        keys, values = held[len(held) - tokens + t]
                        keys.append(k[at])
                        values.append(v[at])
                        at += 1
            out = operation(layer, q, k, v)
            at = 0
            for name, members, tokens, context in strands:
                for member in range(members):
                    own = self.kv[name, member]
                    for t in range(tokens):
                        seen = [
                            token
                            for c in context
                            for m in range(self.caches[c].members)
                            for token in self.kv[c, m]
                        ]
                        seen += own[: len(own) - tokens + t + 1]
                        expected = softmax_attention(
                            q[at],
                            torch.stack([keys[layer] for keys, _ in seen]),
                            torch.stack([values[layer] for _, values in seen]),
                        )
                        worst = max(worst, (out[at] - expected).abs().max().item())
                        at += 1
        return worst


@pytest.fixture(params=["CPU kernel", "any device"])
def attend(request, monkeypatch):
    """Both ways to compute attention and its log-sum-exp."""
    if request.param == "any device":
        monkeypatch.setattr(attention, "attend_on_cpu", attention.attend_anywhere)
    return request.param


@pytest.mark.parametrize("seed", range(4))
def test_a_whole_request_attends_to_what_its_graph_says(attend, seed):
    r = Recorder(seed)
    r.cache("prompt", 1)
    r.cache("paths", 3)
    r.cache("summary", 1)
    worst = [r.step(("prompt", 1, 5, ()), ("paths", 3, 1, ("prompt",)))]
    worst.append(r.step(("paths", 3, 1, ("prompt",))))
    for live in (3, 3, 2, 2, 1):  # the others have retired: ragged ends
        worst.append(r.step(("paths", live, 1, ("prompt",))))
    worst.append(r.step(("paths", 3, 1, ("prompt",)), ("summary", 1, 4, ("prompt", "paths"))))
    worst.append(r.step(("summary", 1, 1, ("prompt", "paths"))))
    r.cache("second prompt", 1)
    worst.append(r.step(("second prompt", 1, 3, ("prompt", "paths", "summary"))))
    assert max(worst) < 2e-5


def test_several_requests_share_a_forward(attend):
    r = Recorder(9)
    for name, members in (("p", 1), ("q", 1), ("paths of p", 2), ("paths of q", 4)):
        r.cache(name, members)
    assert r.step(("p", 1, 3, ()), ("paths of p", 2, 1, ("p",))) < 2e-5
    assert (
        r.step(("paths of p", 2, 1, ("p",)), ("q", 1, 7, ()), ("paths of q", 4, 1, ("q",))) < 2e-5
    )


def test_a_segment_can_grow_by_chunks(attend):
    r = Recorder(3)
    r.cache("prompt", 1)
    for tokens in (4, 1, 3, 8):
        assert r.step(("prompt", 1, tokens, ())) < 2e-5
    r.cache("paths", 2)
    for tokens in (2, 3):
        assert r.step(("paths", 2, tokens, ("prompt",))) < 2e-5
    assert r.step(("paths", 1, 2, ("prompt",))) < 2e-5
    assert r.step(("paths", 2, 2, ("prompt",))) < 2e-5


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 9)),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from(["all", "masked", "causal"]),
    st.integers(0, 2**31),
)
def test_the_cpu_kernel_and_the_general_way_agree(sizes, scale, visible, seed):
    batch, queries, keys = sizes
    causal = visible == "causal"
    if causal:
        queries = keys
    random = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(batch, 2, n, HEAD_DIM, generator=random) * scale for n in (queries, keys, keys)
    )
    mask = None
    if visible == "masked":
        ends = torch.randint(1, keys + 1, (batch, 1, 1, 1), generator=random)
        mask = torch.zeros(batch, 1, 1, keys).masked_fill(torch.arange(keys) >= ends, -torch.inf)
    out, lse = attention.attend_on_cpu(q, k, v, mask, causal)
    expected, expected_lse = attention.attend_anywhere(q, k, v, mask, causal)
    assert torch.allclose(out, expected, atol=1e-5, rtol=1e-4)
    assert torch.allclose(lse, expected_lse, atol=1e-4, rtol=1e-5)


def test_swapped_members_keep_their_keys_and_values():
    cache = SiblingCache(CONFIG, 3, CPU, torch.float32, capacity=1)
    numbers = torch.arange(3 * 2 * KV_HEADS * HEAD_DIM).view(6, KV_HEADS, HEAD_DIM).float()
    cache.reserve(2)
    for layer in range(2):
        cache.write(
            layer,
            torch.tensor([0, 0, 1, 2, 2]),
            torch.tensor([0, 1, 0, 0, 1]),
            numbers[:5] + layer,
            -numbers[:5] - layer,
        )
    cache.lengths = [2, 1, 2]
    cache.swap(1, 2)
    cache.swap(0, 0)
    cache.reserve(100)
    assert cache.lengths == [2, 2, 1]
    for layer in range(2):
        k, v = cache.read(layer, 3, 2)
        assert torch.equal(k[0].transpose(0, 1), numbers[0:2] + layer)
        assert torch.equal(k[1].transpose(0, 1), numbers[3:5] + layer)
        assert torch.equal(k[2, :, :1].transpose(0, 1), numbers[2:3] + layer)
        assert torch.equal(v[1].transpose(0, 1), -numbers[3:5] - layer)
