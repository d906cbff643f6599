"""However the engine cuts, shares, repeats or postpones the work, logprobs equal the reference."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
from functools import cache
from pathlib import Path

import pytest

from parathinker import Answer, ParaThinker, ThinkingParams
from parathinker.prompt import PromptCodec
from thinkers import (
    ENGINES,
    TOLERANCE,
    Faulty,
    assert_same,
    distance,
    no_leak,
    shared,
    thinker,
    written,
)

codec = cache(PromptCodec.from_folder)
ASKED = ThinkingParams(
    paths=4,
    temperature=1.0,
    seed=3,
    max_path_tokens=24,
    max_summary_tokens=8,
    termination="last-finish",
    summary_prefix="So:",
)
MANY_SIDED = (
    ("What is 48213 * 7689?", {}),
    ("x", {"paths": 1, "temperature": 0.0}),
    ("Why is the sky blue, and the sea? " * 4, {"paths": 3, "termination": "first-finish"}),
    ("Ünïcode 🙂", {"paths": 8, "termination": "half-finish", "top_p": 0.9}),
    ("Once more.", {"paths": 2, "rounds": 2}),
    ("Begun.", {"paths": 2, "path_prefix": ("First, ", "A longer beginning: ")}),
    ("Held up.", {"paths": 3, "min_path_tokens": 12, "continuation": "Wait, "}),
)
pytestmark = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(scope="module")
def folder(random_model) -> Path:
    return random_model("llama", max_paths=16, seed=7)


def ask_all(model: ParaThinker) -> list[Answer]:
    """Mixed requests, all of them there before the engine takes its first step."""
    engine, faulty, all_there = model._engine, Faulty(model), threading.Event()
    faulty.before_forward = all_there.wait

    async def asked() -> list[Answer]:
        tasks = [
            asyncio.ensure_future(model.athink(question, dataclasses.replace(ASKED, **changes)))
            for question, changes in MANY_SIDED
        ]
        while len(engine._orders) + len(engine._sinks) < len(tasks):
            await asyncio.sleep(0.001)
        all_there.set()
        return await asyncio.gather(*tasks)

    try:
        return asyncio.run(asked())
    finally:
        faulty.remove()


@cache
def alone(folder: Path, engine: str) -> list[Answer]:
    model = shared(folder, engine)
    answers = []
    for question, changes in MANY_SIDED:
        answers.append(model.think(question, dataclasses.replace(ASKED, **changes)))
        model.forget_prefixes()
    return answers


def test_one_after_the_other_is_exact(folder, engine, measured):
    worst = max(distance(folder, answer) for answer in alone(folder, engine))
    measured(f"largest difference, schedules, {engine}", worst)
    assert worst <= TOLERANCE
    reasons = {path.finish_reason for a in alone(folder, engine) for path in a.paths}
    assert reasons == {"stop", "length", "cut"}


def test_mixed_requests_of_one_batch_are_exact_and_what_they_are_alone(folder, engine):
    for answer, single in zip(ask_all(shared(folder, engine)), alone(folder, engine), strict=True):
        assert distance(folder, answer) <= TOLERANCE
        assert_same(answer, single, engine)


@pytest.mark.parametrize("tokens", [1, 5, 16])
def test_prompts_read_in_chunks_are_exact(folder, engine, tokens):
    model = thinker(folder, engine, max_batch_tokens=tokens)
    with no_leak(model):
        for answer, single in zip(ask_all(model), alone(folder, engine), strict=True):
            assert distance(folder, answer) <= TOLERANCE
            assert_same(answer, single, engine)


def test_requests_that_give_way_and_are_computed_anew_are_exact(folder, engine):
    # Just enough for the largest of them.
    model = thinker(folder, engine, kv_tokens=304, max_batch_tokens=32)
    with no_leak(model):
        for answer, single in zip(ask_all(model), alone(folder, engine), strict=True):
            assert distance(folder, answer) <= TOLERANCE
            assert_same(answer, single, engine)
        assert model.load().preemptions > 0


def test_a_prompt_that_was_read_before_is_not_read_again_and_exact(folder, engine):
    model = thinker(folder, engine)
    question = "A prompt of more than one block of tokens."
    first = model.think(question, ASKED)
    again = model.think(question, ASKED)
    longer = model.think(question + " And more.", ASKED)
    shorter = model.think(question[:21], ASKED)
    other = model.think("B" + question[1:], ASKED)
    assert first.usage.cached_tokens == 0
    assert again.usage.cached_tokens == len(question)
    assert longer.usage.cached_tokens == len(question) // 8 * 8
    assert shorter.usage.cached_tokens == 16
    assert other.usage.cached_tokens == 0
    assert_same(again, first, engine)
    for answer in (first, again, longer, shorter, other):
        assert answer.usage.prompt_tokens == len(answer.prompt_token_ids)
        assert distance(folder, answer) <= TOLERANCE
    model.forget_prefixes()
    assert model.think(question, ASKED).usage.cached_tokens == 0


def test_questions_that_arrive_together_share_one_reading_of_their_prompt(folder, engine):
    model = thinker(folder, engine)
    question = "The same long prompt for all of them, asked three times."
    answers = model.think([question] * 3, ASKED)
    assert [answer.usage.cached_tokens for answer in answers] == [0, 56, 56]
    for answer in answers:
        assert_same(answer, answers[0], engine)
        assert distance(folder, answer) <= TOLERANCE


@pytest.mark.parametrize("termination", ["first-finish", "last-finish"])
def test_rounds_are_exact_and_later_ones_read_the_earlier(folder, engine, termination, measured):
    params = dataclasses.replace(ASKED, rounds=3, termination=termination, paths=3)
    answer = shared(folder, engine).think("What is 6 * 7?", params)
    assert len(answer.rounds) == 3
    assert (answer.paths, answer.summary) == (answer.rounds[2].paths, answer.rounds[2].summary)
    assert len({tuple(r.paths[0].token_ids) for r in answer.rounds}) == 3, "rounds draw apart"
    worst = distance(folder, answer)
    measured(f"largest difference, three rounds, {engine}", worst)
    assert worst <= TOLERANCE
    for wrong in ({"drop_round": 1}, {"drop_round": 2}, {"drop_path": 2}, {"flat_positions": True}):
        assert distance(folder, answer, **wrong) > 0.1, wrong


def follow_ups(model: ParaThinker, forget: bool, **changes: object) -> list[Answer]:
    answers: list[Answer] = []
    for question in ("What is 6 * 7?", "And half of it?", "Why?"):
        after = answers[-1] if answers else None
        if forget:
            model.forget_prefixes()
        answers.append(model.think(question, dataclasses.replace(ASKED, **changes), after=after))
    return answers


@pytest.mark.parametrize("rounds", [1, 2])
def test_follow_ups_are_exact_and_see_summaries_but_no_earlier_paths(folder, engine, rounds):
    model = thinker(folder, engine)
    answers = follow_ups(model, forget=False, rounds=rounds)
    for answer in answers:
        assert distance(folder, answer) <= TOLERANCE
    for before, answer in itertools.pairwise(answers):
        assert answer.after is before
        assert answer.prompt_token_ids[0] == before.summary.token_ids[-1]
        assert (
            codec(folder).decode(answer.prompt_token_ids[1:])
            == {
                1: "\nAnd half of it?",
                2: "\nWhy?",
            }[answers.index(answer)]
        )
        # All that the follow-up sees of earlier turns lies in memory.
        seen, turn = 0, before
        while turn is not None:
            seen += turn.usage.prompt_tokens
            seen += sum(len(r.summary.token_ids) for r in turn.rounds) - 1
            turn = turn.after
        assert answer.usage.cached_tokens == seen
    for wrong in (
        {"earlier_paths": True},
        {"drop_turn": 0},
        {"drop_turn": 1},
        {"flat_positions": True},
        {"thoughts": False},
    ):
        assert distance(folder, answers[2], **wrong) > 0.05, wrong
    anew = follow_ups(model, forget=True, rounds=rounds)
    assert all(answer.usage.cached_tokens == 0 for answer in anew)
    for answer, cached in zip(anew, answers, strict=True):
        assert distance(folder, answer) <= TOLERANCE
        assert_same(answer, cached, engine)


def test_a_follow_up_is_exact_in_small_chunks_and_little_memory(folder, engine):
    roomy = follow_ups(shared(folder, engine), forget=False)
    model = thinker(folder, engine, kv_tokens=608, max_batch_tokens=7)
    with no_leak(model):
        tight = follow_ups(model, forget=False)
        for answer, expected in zip(tight, roomy, strict=True):
            assert distance(folder, answer) <= TOLERANCE
            assert_same(answer, expected, engine)
        # Three conversations at once, in memory for one.
        second = model.think([f"More {i}?" for i in range(3)], ASKED, after=tight[-1])
        assert all(distance(folder, answer) <= TOLERANCE for answer in second)


def test_a_paths_prefix_and_what_continues_it_count_as_its_own_and_are_exact(folder, engine):
    prefixes = ("Let us see. ", "", "On the other hand, let us begin with something longer: ")
    params = dataclasses.replace(
        ASKED, paths=3, path_prefix=prefixes, max_path_tokens=80, min_path_tokens=60
    )
    answer = shared(folder, engine).think(
        "Which?", dataclasses.replace(params, continuation="Wait! ")
    )
    waits = 0
    for path, prefix in zip(answer.paths, prefixes, strict=True):
        forced = codec(folder).encode_text(prefix)
        assert path.token_ids[1 : 1 + len(forced)] == forced
        assert path.logprobs[: 1 + len(forced)] == [None] * (1 + len(forced))
        assert path.text.startswith(prefix)
        waits += path.text.count("Wait! ")
    assert waits > 0
    assert distance(folder, answer) <= TOLERANCE


def test_paths_that_are_added_while_answers_disagree_are_exact(folder, engine):
    params = dataclasses.replace(ASKED, paths="auto", max_paths=7)
    answer = shared(folder, engine).think("Which?", params)
    assert len(answer.paths) == 7, "random paths do not agree"
    assert [path.thought_id for path in answer.paths] == [1, 2, 3, 4, 5, 6, 7]
    assert distance(folder, answer) <= TOLERANCE
    assert distance(folder, answer, drop_path=7) > 0.1
    # A path does not know when it was begun.
    fixed = shared(folder, engine).think(
        "Which?", dataclasses.replace(params, paths=7, max_paths=None)
    )
    assert_same(answer, fixed, engine)


def test_penalties_leave_the_reported_logprobs_raw(folder, engine):
    params = dataclasses.replace(
        ASKED, repetition_penalty=1.7, frequency_penalty=0.8, presence_penalty=1.5, top_k=40
    )
    answer = shared(folder, engine).think("Which?", params)
    assert distance(folder, answer) <= TOLERANCE
    assert written(answer) != written(shared(folder, engine).think("Which?", ASKED))


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_given_paths_are_read_once_and_exact(folder, engine, together):
    question, model = "What is 6 * 7?", thinker(folder, engine)
    bodies = [path.token_ids for path in model.think(question, ASKED).paths]
    model.forget_prefixes()
    given = [bodies, bodies[:2], bodies[:3], bodies]
    faulty = Faulty(model)
    with no_leak(model):
        if together:
            answers = model.summarize([question] * 4, given, ASKED)
        else:
            answers = [model.summarize([question], [some], ASKED)[0] for some in given]
    read = len(question) + sum(map(len, bodies))
    summaries = sum(len(answer.summary.token_ids) for answer in answers)
    # What is written last is not read; of a path that is known, the end of a block may be.
    assert read + summaries - 4 <= faulty.tokens <= read + summaries
    for answer, some in zip(answers, given, strict=True):
        assert distance(folder, answer) <= TOLERANCE
        alone = shared(folder, engine).summarize([question], [some], ASKED)[0]
        assert_same(answer, alone, engine)
