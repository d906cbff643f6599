"""The native sampler against PyTorch's, which has tests of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from native_cases import RandomModel, needs_library, read_model
from parathinker.engine.native.runner import NativeRunner
from parathinker.engine.native.sampler import sample as sample_alone
from parathinker.engine.sampler import LogitEdits, Sampled, SamplingRow, sample

pytestmark = needs_library

Sample = Callable[[Tensor, Sequence[SamplingRow]], list[Sampled]]
NOTHING = LogitEdits.ban([])


@pytest.fixture(scope="module", params=[None, 1, 2])
def native(request: pytest.FixtureRequest, random_model: RandomModel) -> Sample:
    """Sampling asks nothing of the model but its threads, and does without."""
    if request.param is None:
        return sample_alone
    return NativeRunner(*read_model(random_model()), threads=request.param).sample


def warm(uniform: float, **changes: object) -> SamplingRow:
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "edits": NOTHING}
    return SamplingRow(uniform=uniform, **(options | changes))  # type: ignore[arg-type]


edits = st.builds(
    lambda tokens, divide, subtract: LogitEdits(
        np.array(tokens, np.int64),
        np.full(len(tokens), divide, np.float32),
        np.full(len(tokens), subtract, np.float32),
    ),
    st.lists(st.integers(0, 6), unique=True, max_size=5),
    st.sampled_from([1.0, 1.3]),
    st.sampled_from([0.0, 0.7, math.inf]),
)
rows = st.builds(
    SamplingRow,
    temperature=st.sampled_from([0.0, 1e-9, 0.5, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 3, 40]),
    top_p=st.sampled_from([1.0, 1.0, 0.3, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.5]),
    uniform=st.floats(0, 1, exclude_max=True),
    edits=edits,
)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([7, 64, 333, 5000]),
    spread=st.sampled_from([0.0, 0.3, 2.0, 9.0]),
    coarse=st.booleans(),
    asked=st.lists(rows, min_size=1, max_size=6),
)
@settings(max_examples=200)
def test_tokens_and_logprobs_are_those_of_torch(
    native: Sample, seed: int, size: int, spread: float, coarse: bool, asked: list[SamplingRow]
) -> None:
    if coarse or not spread:
        size = min(size, 1000)  # of more equal ones, torch's topk takes any
    generator = torch.Generator().manual_seed(seed)
    logits_RV = torch.randn(len(asked), size, generator=generator) * spread
    if coarse:
        logits_RV = logits_RV.round()  # many equal ones
    kept_RV = logits_RV.clone()
    found, expected = native(logits_RV, asked), sample(logits_RV, asked)
    assert torch.equal(logits_RV, kept_RV)
    for row, logits_V, got, want in zip(asked, logits_RV, found, expected, strict=True):
        assert got.sound
        assert got.logprob == pytest.approx(
            float(logits_V.double().log_softmax(-1)[got.token]), abs=1e-5
        )
        if got.token != want.token:
            # A draw so close to a boundary that rounding decides it.
            assert row.temperature > 0
            close = {
                sample(logits_V[None], [warm_like(row, row.uniform + nudge)])[0].token
                for nudge in (-1e-9, 1e-9)
            }
            assert got.token in close


def warm_like(row: SamplingRow, uniform: float) -> SamplingRow:
    uniform = min(max(uniform, 0.0), math.nextafter(1.0, 0.0))
    return SamplingRow(row.temperature, row.top_k, row.top_p, row.min_p, uniform, row.edits)


def test_the_share_of_each_token_is_its_probability(native: Sample) -> None:
    logits_V = torch.tensor([0.0, 2.0, 1.0, -3.0])
    uniforms = (np.arange(4000) + 0.5) / 4000
    tokens = [one.token for one in native(logits_V.expand(4000, 4), [warm(u) for u in uniforms])]
    assert tokens == sorted(tokens)
    shares = np.bincount(tokens, minlength=4) / 4000
    assert shares == pytest.approx(logits_V.softmax(-1).numpy(), abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 17, 99])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_went_wrong_says_so(
    native: Sample, bad: float, place: int, temperature: float
) -> None:
    logits_RV = torch.randn(3, 100)
    logits_RV[1, place] = bad
    found = native(logits_RV, [warm(0.5, temperature=temperature)] * 3)
    assert [one.sound for one in found] == [True, False, True]


def test_the_last_token_can_be_drawn_and_a_banned_one_cannot(native: Sample) -> None:
    logits_RV = torch.zeros(1, 300)
    nearly_one = math.nextafter(1.0, 0.0)
    assert native(logits_RV, [warm(nearly_one)])[0].token == 299
    banned = LogitEdits.ban([298, 299])
    assert native(logits_RV, [warm(nearly_one, edits=banned)])[0].token == 297
    assert native(logits_RV, [warm(0.0, edits=LogitEdits.ban([0]))])[0].token == 1


def test_an_edit_outside_the_vocabulary_is_an_error(native: Sample) -> None:
    with pytest.raises(RuntimeError, match="an edit of a token that is not there"):
        native(torch.zeros(1, 10), [warm(0.5, edits=LogitEdits.ban([10]))])
