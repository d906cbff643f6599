"""Sampling against a slow definition written out token by token."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parathinker.engine.sampler import SamplingRow, path_generator, sample, token_logprobs

GREEDY = SamplingRow(0.0, 0, 1.0, 0.0, (), 0.0)


def allowed_probabilities(logits: list[float], row: SamplingRow) -> dict[int, float]:
    """Temperature, then min-p, top-k and top-p over what is left, renormalised."""
    allowed = [t for t in range(len(logits)) if t not in row.banned]
    top = max(logits[t] for t in allowed)
    mass = {t: math.exp((logits[t] - top) / row.temperature) for t in allowed}
    mass = {t: m for t, m in mass.items() if m >= row.min_p * max(mass.values())}
    ranked = sorted(mass, key=lambda t: (-mass[t], t))
    if row.top_k:
        ranked = ranked[: row.top_k]
    total = sum(mass[t] for t in ranked)
    kept, before = [], 0.0
    for token in ranked:
        if kept and row.top_p < 1 and before >= row.top_p:
            break
        kept.append(token)
        before += mass[token] / total
    total = sum(mass[t] for t in kept)
    return {t: mass[t] / total for t in sorted(kept)}


def choice(probabilities: dict[int, float], uniform: float) -> tuple[int, float]:
    """Inverse CDF in order of token ids, and how far the draw was from another choice."""
    reached = 0.0
    for token, probability in probabilities.items():
        if uniform < reached + probability:
            return token, min(uniform - reached, reached + probability - uniform)
        reached += probability
    return token, 0.0


rows = st.builds(
    SamplingRow,
    temperature=st.sampled_from([0.1, 0.5, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 2, 5, 100]),
    top_p=st.sampled_from([1.0, 0.999, 0.8, 0.33, 1e-6]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    banned=st.sets(st.integers(0, 19), max_size=15).map(lambda s: tuple(sorted(s))),
    uniform=st.floats(0, 1, exclude_max=True),
)


@settings(max_examples=150)
@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 2**32), st.sampled_from([20, 37]))
def test_every_row_gets_what_the_definition_gives_it_alone(rows, seed, vocabulary):
    numbers = random.Random(seed)
    logits = [[numbers.gauss(0, 3) for _ in range(vocabulary)] for _ in rows]
    tensor = torch.tensor(logits)
    chosen = sample(tensor, rows)
    for values, row, token in zip(tensor.tolist(), rows, chosen, strict=True):
        probabilities = allowed_probabilities(values, row)
        assert token in probabilities
        expected, margin = choice(probabilities, row.uniform)
        assert token == expected or margin < 1e-9
    assert torch.equal(tensor, torch.tensor(logits)), "the logits were changed in place"


@given(st.lists(rows, min_size=2, max_size=6), st.integers(0, 2**32))
def test_a_row_is_drawn_the_same_whatever_its_neighbours(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(rows), 50, generator=generator) * 3
    together = sample(logits, [*rows[:-1], GREEDY])
    alone = [sample(logits[i : i + 1], [row])[0] for i, row in enumerate([*rows[:-1], GREEDY])]
    assert together == alone


@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, 0.999999999, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_choose_tokens_that_have_mass(uniform):
    logits = torch.full((1, 1000), -2000.0)
    logits[0, [3, 500]] = torch.tensor([0.0, 0.0])
    for top_k in (0, 2):
        row = SamplingRow(0.7, top_k, 1.0, 0.0, (0, 999), uniform)
        assert sample(logits, [row]) == [3 if uniform < 0.5 else 500]
    flat = torch.zeros(1, 1000)
    row = SamplingRow(1.0, 0, 1.0, 0.0, tuple(range(990, 1000)), uniform)
    assert sample(flat, [row]) == [min(int(uniform * 990), 989)]


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature):
    logits = torch.tensor([[1.0, 80.0, 79.9, -3.0]])
    assert sample(logits, [SamplingRow(temperature, 0, 1.0, 0.0, (), 0.999)]) == [1]


def test_a_huge_temperature_is_uniform_over_what_is_allowed():
    logits = torch.tensor([[50.0, -50.0, 0.0, 7.0]])
    drawn = [sample(logits, [SamplingRow(1e300, 0, 1.0, 0.0, (2,), u)])[0] for u in (0.1, 0.5, 0.9)]
    assert drawn == [0, 1, 3]


def test_temperature_zero_takes_the_likeliest_token_that_is_not_banned():
    logits = torch.tensor([[1.0, 9.0, 8.0], [5.0, 2.0, 5.0]])
    row = SamplingRow(0.0, 0, 1.0, 0.0, (1,), 0.0)
    assert sample(logits, [row, GREEDY]) == [2, 0]


def test_frequencies_match_the_probabilities():
    logits = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5]
    row = SamplingRow(0.8, 4, 0.95, 0.0, (1,), 0.0)
    expected = allowed_probabilities(logits, row)
    generator, draws = path_generator(7, (1, 2), 3), 20_000
    batch = [SamplingRow(0.8, 4, 0.95, 0.0, (1,), generator.random()) for _ in range(draws)]
    chosen = sample(torch.tensor([logits]).expand(draws, -1), batch)
    counts = {t: chosen.count(t) for t in set(chosen)}
    assert set(counts) == set(expected)
    chi_square = sum((counts[t] - draws * p) ** 2 / (draws * p) for t, p in expected.items())
    assert chi_square < 20  # 3 degrees of freedom: more than this once in 6,000 seeds


def test_generators_of_paths_prompts_and_seeds_differ_and_repeat():
    first = {
        (seed, prompt, i): path_generator(seed, prompt, i).random()
        for seed in (0, 1, 11, 2**64)
        for prompt in ((1,), (1, 2), (12,), (2, 1))
        for i in (0, 1, 2, 12)
    }
    assert len(set(first.values())) == len(first)
    assert all(first[key] == path_generator(*key).random() for key in first)


def test_token_logprobs_are_the_log_softmax_of_the_logits_as_they_are():
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(0)) * 5
    tokens = [3, 0, 29, 7]
    expected = torch.log_softmax(logits.double(), -1)
    for row, (token, logprob) in enumerate(
        zip(tokens, token_logprobs(logits, tokens), strict=True)
    ):
        assert logprob == pytest.approx(expected[row, token].item(), abs=1e-5)
