"""The likeliest tokens beside each chosen one."""

from __future__ import annotations

import asyncio

import pytest
import torch

from parathinker import Done, PathToken, SummaryToken, ThinkingParams
from reference import reference_logits, reference_model, segments_of
from thinkers import ENGINES, shared

QUESTION = "What is 48213 * 7689?"
PARAMS = ThinkingParams(
    paths=3,
    min_path_tokens=10,
    max_path_tokens=12,
    max_summary_tokens=6,
    seed=2,
    summary_prefix="So",
    repetition_penalty=1.3,
    top_logprobs=5,
)


@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_those_of_the_raw_logits(tiny_random_model, engine) -> None:
    answer = shared(tiny_random_model, engine).think(QUESTION, PARAMS)
    all_logits = reference_logits(reference_model(tiny_random_model), answer)
    compared = 0
    for segment, logits_SV in zip(segments_of(answer), all_logits, strict=True):
        assert len(segment.top_logprobs) == len(segment.token_ids)
        expected = logits_SV.log_softmax(-1).topk(5)
        for at, likeliest in enumerate(segment.top_logprobs):
            if segment.logprobs[at] is None:
                assert likeliest == []
                continue
            values = [logprob for _, logprob in likeliest]
            assert values == pytest.approx(expected.values[at - 1].tolist(), abs=1e-4)
            rows = logits_SV[at - 1].log_softmax(-1)
            assert [rows[token].item() for token, _ in likeliest] == pytest.approx(values, abs=1e-4)
            compared += 1
    assert compared > 20


def test_requests_of_one_batch_get_what_each_asked_for(tiny_random_model) -> None:
    model = shared(tiny_random_model)
    plain = ThinkingParams(paths=2, max_path_tokens=12, max_summary_tokens=6, seed=2)
    alone = model.think(QUESTION, PARAMS)

    async def together():
        return await asyncio.gather(model.athink(QUESTION, PARAMS), model.athink("Why?", plain))

    first, second = asyncio.run(together())
    assert first.paths == alone.paths
    assert first.summary == alone.summary
    assert second.paths[0].top_logprobs == []


def test_events_carry_them_too(tiny_random_model) -> None:
    events = list(shared(tiny_random_model).stream(QUESTION, PARAMS))
    assert isinstance(events[-1], Done)
    answer = events[-1].answer
    for path in answer.paths:
        told = [
            list(e.top_logprobs)
            for e in events
            if isinstance(e, PathToken) and e.thought_id == path.thought_id
        ]
        assert told == path.top_logprobs
    told = [list(e.top_logprobs) for e in events if isinstance(e, SummaryToken)]
    assert told == answer.summary.top_logprobs


def test_more_than_the_vocabulary_are_all_of_it(tiny_random_model) -> None:
    params = ThinkingParams(paths=1, max_path_tokens=4, max_summary_tokens=2, top_logprobs=10**6)
    path = shared(tiny_random_model).think(QUESTION, params).paths[0]
    total = torch.tensor([logprob for _, logprob in path.top_logprobs[1]]).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-4)
