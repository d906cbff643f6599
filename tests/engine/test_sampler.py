"""Sampling against a slow definition written out token by token."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parathinker.engine.sampler import (
    _CANDIDATES,
    LogitEdits,
    Sampled,
    SamplingRow,
    path_generator,
    sample,
)

Edit = tuple[float, float]
"""What a token's logit is divided by (multiplied, below zero), and what is taken off then."""


def edits(changes: dict[int, Edit]) -> LogitEdits:
    return LogitEdits(
        np.array(list(changes), np.int64),
        np.array([divide for divide, _ in changes.values()], np.float32),
        np.array([subtract for _, subtract in changes.values()], np.float32),
    )


def row_of(temperature: float, uniform: float = 0.0, **options) -> SamplingRow:
    """A row that bans ``banned`` and sets ``top_k``, ``top_p``, ``min_p``."""
    banned = options.pop("banned", ())
    limits = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, **options}
    return SamplingRow(temperature, uniform=uniform, edits=LogitEdits.ban(banned), **limits)


GREEDY = row_of(0.0)


def tokens(chosen: Sequence[Sampled]) -> list[int]:
    return [one.token for one in chosen]


def edited(logits: Sequence[float], row: SamplingRow) -> list[float]:
    """Logits with the row's edits, one token after another."""
    e, new = row.edits, list(logits)
    for token, divide, subtract in zip(
        e.tokens_N.tolist(), e.divide_N.tolist(), e.subtract_N.tolist(), strict=True
    ):
        old = new[token]
        new[token] = (old / divide if old > 0 else old * divide) - subtract
    return new


def allowed_probabilities(logits: Sequence[float], row: SamplingRow) -> dict[int, float]:
    """Edits, temperature, then min-p, top-k and top-p over what is left, renormalised."""
    logits = edited(logits, row)
    allowed = [t for t in range(len(logits)) if logits[t] > -math.inf]
    top = max(logits[t] for t in allowed)
    mass = {t: math.exp((logits[t] - top) / row.temperature) for t in allowed}
    least = row.min_p * max(mass.values())
    mass = {t: m for t, m in mass.items() if m >= least}
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


def check(logits: Sequence[float], row: SamplingRow, chosen: Sampled) -> None:
    """One row against the definition."""
    assert chosen.sound
    assert chosen.logprob == pytest.approx(
        torch.tensor(logits).double().log_softmax(-1)[chosen.token].item(), abs=2e-5
    )
    if row.temperature == 0:
        new = edited(logits, row)
        assert new[chosen.token] == pytest.approx(max(new), rel=1e-6)
        return
    probabilities = allowed_probabilities(logits, row)
    assert chosen.token in probabilities
    expected, margin = choice(probabilities, row.uniform)
    assert chosen.token == expected or margin < 1e-9


bans = st.dictionaries(st.integers(0, 19), st.just((1.0, math.inf)), max_size=15)
penalties = st.dictionaries(
    st.integers(0, 19),
    st.tuples(st.sampled_from([1.0, 1.5, 0.5]), st.sampled_from([0.0, 2.0, -1.0, math.inf])),
    max_size=15,
)
rows = st.builds(
    SamplingRow,
    temperature=st.sampled_from([0.1, 0.5, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 2, 5, 100]),
    top_p=st.sampled_from([1.0, 0.999, 0.8, 0.33, 1e-6]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    uniform=st.floats(0, 1, exclude_max=True),
    edits=st.one_of(bans, penalties).map(edits),
)


@settings(max_examples=150)
@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 2**32), st.sampled_from([20, 37]))
def test_every_row_gets_what_the_definition_gives_it_alone(rows, seed, vocabulary):
    numbers = random.Random(seed)
    logits = [[numbers.gauss(0, 3) for _ in range(vocabulary)] for _ in rows]
    tensor = torch.tensor(logits)
    for values, row, chosen in zip(tensor.tolist(), rows, sample(tensor, rows), strict=True):
        check(values, row, chosen)
    assert torch.equal(tensor, torch.tensor(logits)), "the logits were changed in place"


@given(st.lists(rows, min_size=2, max_size=6), st.integers(0, 2**32))
def test_a_row_is_drawn_the_same_whatever_its_neighbours(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(rows), 50, generator=generator) * 3
    together = tokens(sample(logits, [*rows[:-1], GREEDY]))
    alone = [sample(logits[i : i + 1], [row])[0] for i, row in enumerate([*rows[:-1], GREEDY])]
    assert together == tokens(alone)


LARGE = 3 * _CANDIDATES


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.5, 3.0])
@pytest.mark.parametrize(
    "limits",
    [
        {"top_k": 5},
        {"top_k": _CANDIDATES - 1},
        {"top_k": _CANDIDATES},
        {"top_k": _CANDIDATES + 1},
        {"top_k": 2 * _CANDIDATES, "top_p": 0.7},
        {"top_k": 10 * LARGE},
        {"top_p": 0.01},
        {"top_p": 0.5},
        {"top_p": 0.97},
        {"top_p": 0.999999, "min_p": 0.05},
    ],
    ids=str,
)
def test_large_vocabularies_are_cut_where_the_definition_cuts_them(limits, spread):
    numbers = random.Random(3)
    # Rounded, so that many tokens tie, also where the cut falls.
    values = [round(numbers.gauss(0, 1), 2) * spread for _ in range(LARGE)]
    draws = [row_of(1.0, u, banned=(0, 7), **limits) for u in (0.0, 0.3, 0.77, 1 - 2**-53)]
    logits = torch.tensor([values])
    chosen = sample(logits.expand(4, -1), draws)
    for row, one in zip(draws, chosen, strict=True):
        check(logits[0].tolist(), row, one)
    beside_one_without_limits = sample(logits.expand(5, -1), [*draws, row_of(1.0, 0.5)])
    assert tokens(beside_one_without_limits[:4]) == tokens(chosen)


@pytest.mark.parametrize("size", [1, 2, 200_000])
def test_any_size_of_vocabulary_will_do(size):
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(0))
    for row in (GREEDY, row_of(1.0, 0.9), row_of(0.7, 0.9, top_p=0.9), row_of(1.0, 0.2, top_k=3)):
        [one] = sample(logits, [row])
        assert 0 <= one.token < size
        assert one.sound


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "row", [GREEDY, row_of(1.0, 0.5), row_of(1.0, 0.5, top_p=0.5), row_of(1.0, 0.5, top_k=2)]
)
def test_a_row_that_is_not_finite_is_called_unsound_and_harms_no_other(row, bad):
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    expected = sample(logits, [row] * 3)
    for place in (0, 17, 39):
        broken = logits.clone()
        broken[1, place] = bad
        found = sample(broken, [row] * 3)
        assert [one.sound for one in found] == [True, False, True]
        assert (found[0], found[2]) == (expected[0], expected[2])
        assert 0 <= found[1].token < 40
    assert not sample(torch.full((1, 40), math.nan), [row])[0].sound


def test_logits_of_minus_infinity_are_tokens_that_cannot_be():
    logits = torch.full((1, 30), -math.inf)
    logits[0, 11] = 0.3
    for row in (GREEDY, row_of(1.0, 0.999), row_of(1.0, 0.5, top_p=0.9, top_k=4)):
        assert sample(logits, [row]) == [Sampled(11, 0.0, True)]


def test_penalties_change_the_choice_but_not_the_reported_logprob():
    logits = torch.tensor([[2.0, 1.9, -1.0, -1.1]])
    raw = logits.double().log_softmax(-1)[0]
    for changes, expected in (
        ({}, 0),
        ({0: (1.2, 0.0)}, 1),  # repetition: 2 / 1.2
        ({0: (1.0, 0.2)}, 1),  # presence and frequency
        ({0: (1.0, 5.0), 1: (1.0, math.inf)}, 2),
        ({0: (1.0, math.inf), 1: (1.0, math.inf), 2: (1.2, 0.0)}, 3),  # -1 * 1.2
        ({3: (1.0, -9.0)}, 3),
    ):
        row = dataclasses.replace(GREEDY, edits=edits(changes))
        [one] = sample(logits, [row])
        assert one.token == expected
        assert one.logprob == pytest.approx(raw[expected].item(), abs=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, 0.999999999, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_choose_tokens_that_have_mass(uniform):
    logits = torch.full((1, 1000), -2000.0)
    logits[0, [3, 500]] = torch.tensor([0.0, 0.0])
    for top_k in (0, 2):
        row = row_of(0.7, uniform, top_k=top_k, banned=(0, 999))
        assert tokens(sample(logits, [row])) == [3 if uniform < 0.5 else 500]
    flat = torch.zeros(1, 1000)
    row = row_of(1.0, uniform, banned=range(990, 1000))
    assert tokens(sample(flat, [row])) == [min(int(uniform * 990), 989)]


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature):
    logits = torch.tensor([[1.0, 80.0, 79.9, -3.0]])
    assert tokens(sample(logits, [row_of(temperature, 0.999)])) == [1]


def test_a_huge_temperature_is_uniform_over_what_is_allowed():
    logits = torch.tensor([[50.0, -50.0, 0.0, 7.0]])
    drawn = sample(logits.expand(3, -1), [row_of(1e300, u, banned=(2,)) for u in (0.1, 0.5, 0.9)])
    assert tokens(drawn) == [0, 1, 3]


def test_temperature_zero_takes_the_likeliest_token_that_is_not_banned():
    logits = torch.tensor([[1.0, 9.0, 8.0], [5.0, 2.0, 5.0]])
    assert tokens(sample(logits, [row_of(0.0, banned=(1,)), GREEDY])) == [2, 0]


def test_frequencies_match_the_probabilities():
    logits = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5]
    limits = {"top_k": 4, "top_p": 0.95, "banned": (1,)}
    row = row_of(0.8, **limits)
    expected = allowed_probabilities(logits, row)
    generator, draws = path_generator(7, (1, 2), "3"), 20_000
    batch = [row_of(0.8, generator.random(), **limits) for _ in range(draws)]
    chosen = tokens(sample(torch.tensor([logits]).expand(draws, -1), batch))
    counts = {t: chosen.count(t) for t in set(chosen)}
    assert set(counts) == set(expected)
    chi_square = sum((counts[t] - draws * p) ** 2 / (draws * p) for t, p in expected.items())
    assert chi_square < 20  # 3 degrees of freedom: more than this once in 6,000 seeds


def test_generators_of_paths_prompts_and_seeds_differ_and_repeat():
    first = {
        (seed, prompt, i): path_generator(seed, prompt, i).random()
        for seed in (0, 1, 11, 2**64)
        for prompt in ((1,), (1, 2), (12,), (2, 1))
        for i in ("0", "1", "2", "12", "1/2")
    }
    assert len(set(first.values())) == len(first)
    assert all(first[key] == path_generator(*key).random() for key in first)
