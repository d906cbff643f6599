"""What users see of a request: events and answers tell the same story."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from parathinker import (
    Answer,
    Done,
    ParaThinker,
    PathEnd,
    PathToken,
    StreamEvent,
    SummaryToken,
    ThinkingParams,
)

PARAMS = ThinkingParams(
    paths=3,
    rounds=2,
    max_path_tokens=30,
    max_summary_tokens=12,
    temperature=1.5,
    summary_prefix="So: ",
    path_prefix="ü",
    seed=3,
)


@pytest.fixture(scope="module")
def thinker(tiny_random_model: Path) -> Iterator[ParaThinker]:
    with ParaThinker.from_pretrained(tiny_random_model, threads=1) as thinker:
        yield thinker


@pytest.fixture(scope="module")
def told(thinker: ParaThinker) -> list[StreamEvent]:
    return list(thinker.stream("Well?", PARAMS))


@pytest.fixture(scope="module")
def answer(told: list[StreamEvent]) -> Answer:
    last = told[-1]
    assert isinstance(last, Done)
    return last.answer


def test_events_add_up_to_the_answer(told: list[StreamEvent], answer: Answer) -> None:
    for number, one in enumerate(answer.rounds, 1):
        for path in one.paths:
            mine = [
                e
                for e in told
                if isinstance(e, PathToken) and (e.round, e.thought_id) == (number, path.thought_id)
            ]
            assert [e.token_id for e in mine] == path.token_ids
            assert [e.logprob for e in mine] == path.logprobs
            assert "".join(e.text for e in mine) == path.text
        said = [e for e in told if isinstance(e, SummaryToken) and e.round == number]
        assert [e.token_id for e in said] == one.summary.token_ids
        assert [e.logprob for e in said] == one.summary.logprobs
        assert "".join(e.text for e in said) == one.summary.text


def test_every_path_ends_once_and_says_nothing_after(
    told: list[StreamEvent], answer: Answer
) -> None:
    ended = set()
    for event in told:
        if isinstance(event, PathEnd):
            assert (event.round, event.thought_id) not in ended
            ended.add((event.round, event.thought_id))
            path = answer.rounds[event.round - 1].paths[event.thought_id - 1]
            assert event.finish_reason == path.finish_reason
        elif isinstance(event, PathToken):
            assert (event.round, event.thought_id) not in ended
    assert ended == {(number, i) for number in (1, 2) for i in (1, 2, 3)}


def test_answer_speaks_of_its_last_round(answer: Answer) -> None:
    assert len(answer.rounds) == 2
    assert answer.paths == answer.rounds[-1].paths
    assert answer.summary == answer.rounds[-1].summary
    assert answer.text == answer.summary.text.strip()
    assert answer.text.startswith("So:")


def test_usage_counts_every_token_of_every_round(answer: Answer) -> None:
    usage = answer.usage
    paths = [path for one in answer.rounds for path in one.paths]
    assert usage.prompt_tokens == len(answer.prompt_token_ids)
    assert usage.path_tokens == sum(len(path.token_ids) for path in paths)
    assert usage.summary_tokens == sum(len(one.summary.token_ids) for one in answer.rounds)
    assert usage.total_tokens == usage.prompt_tokens + usage.path_tokens + usage.summary_tokens


def test_forced_tokens_have_no_logprob(answer: Answer) -> None:
    for one in answer.rounds:
        for path in one.paths:
            # The opening token, and the prefix of two bytes.
            assert path.logprobs[:3] == [None] * 3
            assert None not in path.logprobs[3:-1]
            assert (path.logprobs[-1] is None) == (path.finish_reason != "stop")
            assert path.text.startswith("ü")
        forced = 1 + len("So: ")
        assert one.summary.logprobs[:forced] == [None] * forced
        assert None not in one.summary.logprobs[forced:]


def test_timings_are_parts_of_the_whole(answer: Answer) -> None:
    t = answer.timings
    assert min(t.prefill_s, t.think_s, t.summary_ttft_s) > 0
    assert t.summary_ttft_s <= t.summary_s
    assert t.total_s == pytest.approx(t.prefill_s + t.think_s + t.summary_s)


def test_answer_is_plain_data_without_the_turns_before(
    thinker: ParaThinker, answer: Answer
) -> None:
    follow_up = thinker.think("Why?", ThinkingParams(paths=1, max_path_tokens=4), after=answer)
    assert follow_up.after is answer
    document = json.loads(json.dumps(follow_up.to_dict()))
    assert not {"after", "rounds"} & document.keys()
    assert len(answer.to_dict()["rounds"]) == 2


def test_logprobs_can_be_left_out(thinker: ParaThinker) -> None:
    params = ThinkingParams(paths=2, max_path_tokens=6, max_summary_tokens=4, logprobs=False)
    events = list(thinker.stream("Well?", params))
    assert all(e.logprob is None for e in events if isinstance(e, PathToken | SummaryToken))
    last = events[-1]
    assert isinstance(last, Done)
    assert set(last.answer.summary.logprobs) == {None}
    assert len(last.answer.summary.logprobs) == len(last.answer.summary.token_ids)


def test_width_that_grows_is_told_as_it_happens(thinker: ParaThinker) -> None:
    params = ThinkingParams(paths="auto", max_paths=6, max_path_tokens=9, temperature=3.0, seed=1)
    events = list(thinker.stream("Well?", params))
    last = events[-1]
    assert isinstance(last, Done)
    joined = list(dict.fromkeys(e.thought_id for e in events if isinstance(e, PathToken)))
    assert joined == [path.thought_id for path in last.answer.paths]
    assert len(joined) > 2
    # The third begins when the first two have ended.
    ends = [at for at, e in enumerate(events) if isinstance(e, PathEnd)]
    third = [isinstance(e, PathToken) and e.thought_id == 3 for e in events].index(True)
    assert ends[1] < third < ends[2]
