"""Attention over segments equals one softmax over all that the graph lets a token see."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parathinker import Kind, ThoughtGraph
from parathinker.engine.attention import SegmentAttention
from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Read
from parathinker.engine.kv_pool import KVPool
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.masks import dense_mask

LAYERS, HEADS, KV_HEADS, HEAD_DIM = 2, 4, 2, 8
CONFIG = DecoderConfig.from_dict(
    {
        "model_type": "llama",
        "vocab_size": 10,
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
    }
)
GARBAGE = 1e4
"""Finite, as whatever an engine leaves behind; larger than any key or value here."""


@st.composite
def graphs(draw: st.DrawFn) -> ThoughtGraph:
    """Rounds of paths and summaries, several turns, ragged lengths across blocks."""
    graph, head = ThoughtGraph(), ()
    length = st.one_of(st.integers(1, 5), st.integers(1, 3 * BLOCK_TOKENS))
    for _ in range(draw(st.integers(1, 2))):
        head = (graph.add(Kind.PROMPT, draw(length), head),)
        for _ in range(draw(st.integers(1, 2))):
            ids = range(1, draw(st.integers(1, 4)) + 1)
            paths = [graph.add(Kind.PATH, draw(length), head, i) for i in ids]
            head = (graph.add(Kind.SUMMARY, draw(length), (*head, *paths)),)
    return graph


@dataclass
class Request:
    """A graph whose tokens are computed a few at a time, and everything ever written for it."""

    graph: ThoughtGraph
    blocks: list[list[int]]
    computed: list[int] = field(default_factory=list)
    keys_LSKD: list[torch.Tensor] = field(default_factory=list)
    values_LSKD: list[torch.Tensor] = field(default_factory=list)
    mask_SS: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        self.computed = [0] * len(self.graph.segments)
        self.mask_SS = dense_mask(self.graph)
        shape = (LAYERS, self.graph.length, KV_HEADS, HEAD_DIM)
        self.keys_LSKD = list(torch.full(shape, torch.nan))
        self.values_LSKD = list(torch.full(shape, torch.nan))

    @property
    def done(self) -> bool:
        return self.computed == [s.length for s in self.graph.segments]

    def shares(self, choose: random.Random) -> list[tuple[int, int, int]]:
        """(segment, begin, end) of what the next forward computes; at least a token."""
        found = []
        for index, segment in enumerate(self.graph.segments):
            begin = self.computed[index]
            complete = all(
                self.computed[i] == self.graph.segments[i].length for i in self.graph.visible(index)
            )
            if begin == segment.length or not complete:
                continue
            end = choose.randint(begin if found else begin + 1, segment.length)
            if end > begin:
                found.append((index, begin, end))
                self.computed[index] = end
            if choose.random() < 0.4:
                break
        return found


class Bench:
    """A pool in which requests' blocks lie strewn among blocks full of NaN."""

    def __init__(self, graphs: list[ThoughtGraph], seed: int) -> None:
        self.choose = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        sizes = [[-(-s.length // BLOCK_TOKENS) for s in graph.segments] for graph in graphs]
        total = sum(map(sum, sizes))
        self.pool = KVPool(CONFIG, 2 * total + 1, torch.device("cpu"), torch.float32)
        self.pool.keys_LBKDT.fill_(torch.nan)
        self.pool.values_LBKTD.fill_(torch.nan)
        numbers = self.choose.sample(range(self.pool.blocks), total)
        self.pool.keys_LBKDT[:, numbers] = GARBAGE
        self.pool.values_LBKTD[:, numbers] = -GARBAGE
        self.requests = [
            Request(graph, [[numbers.pop() for _ in range(n)] for n in lengths])
            for graph, lengths in zip(graphs, sizes, strict=True)
        ]

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * 2

    def forward(self) -> float:
        """One forward over parts of any requests; the largest error."""
        slots: list[int] = []
        reads: list[Read] = []
        asked: list[tuple[Request, list[int]]] = []  # which of its tokens, flat
        for request in self.requests:
            for index, begin, end in request.shares(self.choose):
                first, n = len(slots), end - begin
                for seen in request.graph.visible(index):
                    length = request.graph.segments[seen].length
                    blocks = np.array(request.blocks[seen], np.int64)
                    reads.append(Read(first, n, blocks, length, False))
                own = request.blocks[index][: -(-end // BLOCK_TOKENS)]
                reads.append(Read(first, n, np.array(own, np.int64), end, n > 1))
                for at in range(begin, end):
                    slots.append(own[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS)
                before = sum(s.length for s in request.graph.segments[:index])
                asked.append((request, list(range(before + begin, before + end))))
        nothing = np.zeros(len(slots), np.int64)
        batch = ForwardBatch(
            nothing, nothing, nothing, np.array(slots, np.int64), tuple(reads), nothing[:0]
        )
        attention = SegmentAttention(batch, self.pool)
        worst = 0.0
        for layer in range(LAYERS):
            q, k, v = (
                self.draw(len(slots), heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)
            )
            parts = torch.arange(len(slots)).split([len(tokens) for _, tokens in asked])
            for (request, tokens), part in zip(asked, parts, strict=True):
                request.keys_LSKD[layer][tokens] = k[part]
                request.values_LSKD[layer][tokens] = v[part]
            out = attention(layer, q, k, v)
            assert out.isfinite().all(), "what lies in other blocks leaked in"
            for (request, tokens), part in zip(asked, parts, strict=True):
                expected = defined(request, layer, tokens, q[part])
                worst = max(worst, (out[part] - expected).abs().max().item())
        return worst


def defined(request: Request, layer: int, tokens: list[int], q_QHD: torch.Tensor) -> torch.Tensor:
    """Queries of tokens and one softmax over all that each of them sees: the definition."""
    group = HEADS // KV_HEADS
    k_SHD = request.keys_LSKD[layer].double().repeat_interleave(group, 1).nan_to_num()
    v_SHD = request.values_LSKD[layer].double().repeat_interleave(group, 1).nan_to_num()
    scores_HQS = torch.einsum("qhd,shd->hqs", q_QHD.double(), k_SHD) / HEAD_DIM**0.5
    scores_HQS = scores_HQS.masked_fill(~request.mask_SS[tokens], -torch.inf)
    return torch.einsum("hqs,shd->qhd", scores_HQS.softmax(-1), v_SHD).float()


@settings(max_examples=25)
@given(st.lists(graphs(), min_size=1, max_size=3), st.integers(0, 2**31))
def test_requests_that_grow_by_any_chunks_attend_to_what_their_graphs_say(drawn, seed):
    bench, worst = Bench(drawn, seed), [0.0]
    while not all(request.done for request in bench.requests):
        worst.append(bench.forward())
    assert max(worst) < 2e-5


def test_many_siblings_and_a_long_prompt_attend_to_what_their_graph_says():
    graph = ThoughtGraph.parallel(75, [(i, 7 + 3 * i) for i in range(1, 9)], summary=20)
    bench, worst = Bench([graph, graph], 5), [0.0]
    while not all(request.done for request in bench.requests):
        worst.append(bench.forward())
    assert max(worst) < 2e-5


def hand_made(n: int, *reads: Read) -> ForwardBatch:
    zeros = np.zeros(n, np.int64)
    return ForwardBatch(zeros, zeros, zeros, np.arange(n), reads, zeros[:0])


def test_siblings_that_read_one_segment_together_get_what_they_get_apart():
    pool = KVPool(CONFIG, 6, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    pool.keys_LBKDT.normal_(generator=generator)
    pool.values_LBKTD.normal_(generator=generator)
    table, own = np.array([4, 2, 5]), np.array([0])
    mine = [Read(i, 1, own, i + 1, False) for i in range(3)]
    q, k, v = (torch.randn(3, h, HEAD_DIM, generator=generator) for h in (HEADS, 2, 2))
    together = SegmentAttention(hand_made(3, Read(0, 3, table, 19, False), *mine), pool)
    apart = [Read(i, 1, table, 19, False) for i in range(3)]
    assert torch.allclose(
        together(0, q, k, v), SegmentAttention(hand_made(3, *apart, *mine), pool)(0, q, k, v)
    )


def test_the_definition_notices_a_key_too_many_and_one_too_few():
    graph = ThoughtGraph.parallel(12, [(1, 9), (2, 4)], summary=3)
    bench = Bench([graph], 1)
    while not bench.requests[0].done:
        bench.forward()
    request = bench.requests[0]
    q = bench.draw(1, HEADS, HEAD_DIM)
    right = defined(request, 0, [27], q)
    for wrong in ([26], [24], [15]):
        assert (right - defined(request, 0, wrong, q)).abs().max() > 0.01


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_scores_of_any_size_stay_finite(scale):
    pool = KVPool(CONFIG, 2, torch.device("cpu"), torch.float32)
    q = torch.full((9, HEADS, HEAD_DIM), scale)
    k = torch.full((9, KV_HEADS, HEAD_DIM), -scale)
    v = torch.randn(9, KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    out = SegmentAttention(hand_made(9, Read(0, 9, np.array([0, 1]), 9, True)), pool)(0, q, k, v)
    # All scores are the same, so the last token gets the mean, up to what float32 makes of scores
    # in the thousands.
    assert torch.allclose(out[-1, 0], v[:, 0].mean(0), atol=1e-5 * max(scale**2, 1))
