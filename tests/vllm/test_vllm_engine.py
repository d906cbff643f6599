"""Many questions at once, little memory, people who leave: answers stay right, no block is lost."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from vllm_models import (
    QUESTIONS,
    TOLERANCE,
    bytes_in_use,
    difference,
    holdings,
    left_behind,
    tokens,
)

from parathinker import CapacityError, ParaThinker, PathToken, ThinkingParams, UsageError
from parathinker.answer import Done, SummaryToken
from parathinker.backends.vllm.environment import RUNNER

# One question may take half of it.
LITTLE = {"num_gpu_blocks_override": 36, "max_model_len": 1000}
SHORT = {"temperature": 1.0, "max_path_tokens": 40, "max_summary_tokens": 10}


def groups(count):
    """Questions with params, all different."""
    terminations = ("first-finish", "half-finish", "last-finish")
    return [
        (
            f"{QUESTIONS[i % 3]} {i}",
            ThinkingParams(paths=1 + 2 * i % 7, seed=i, termination=terminations[i % 3], **SHORT),
        )
        for i in range(count)
    ]


async def all_at_once(model, count):
    """Groups and plain requests side by side."""
    plain = ThinkingParams(paths=1, seed=1, temperature=1.0, max_path_tokens=60)
    thought = [model.athink(question, params) for question, params in groups(count)]
    written = [model.acomplete(f"Once {i}", plain) for i in range(3)]
    return await asyncio.gather(*thought, *written)


def check_all(model, native, folder, count):
    answers = asyncio.run(all_at_once(model, count))
    for (question, params), answer in zip(groups(count), answers, strict=False):
        assert difference(folder, answer) <= TOLERANCE
        assert tokens(answer) == tokens(native(folder).think(question, params))
    for i, answer in enumerate(answers[count:]):
        plain = ThinkingParams(paths=1, seed=1, temperature=1.0, max_path_tokens=60)
        assert tokens(answer) == tokens(native(folder).complete(f"Once {i}", plain))
    assert left_behind(model) == {}


def test_groups_and_plain_requests_share_the_engine(start, native, folder):
    check_all(start(folder), native, folder, 9)


def test_a_prompt_may_be_read_in_pieces(start, native, folder):
    model = start(folder, max_num_batched_tokens=48)
    question = "A long story. " * 40
    params = ThinkingParams(paths=3, seed=1, **SHORT)
    answer = model.think(question, params)
    assert difference(folder, answer) <= TOLERANCE
    check_all(model, native, folder, 5)


def test_tokens_stream_while_others_are_written(start, folder):
    model = start(folder)
    params = ThinkingParams(paths=3, seed=2, termination="last-finish", **SHORT)
    arrivals, events = [], []
    for event in model.stream("Why?", params):
        arrivals.append(time.monotonic())
        events.append(event)
    done = events[-1]
    assert isinstance(done, Done)
    for path in done.answer.paths:
        told = [e for e in events if isinstance(e, PathToken) and e.thought_id == path.thought_id]
        assert [e.token_id for e in told] == path.token_ids
    told = [e.token_id for e in events if isinstance(e, SummaryToken)]
    assert told == done.answer.summary.token_ids
    # In many pieces, not one.
    assert len({round(at, 3) for at in arrivals}) > 10


def test_a_stream_that_is_closed_frees_its_memory(start, folder):
    model = start(folder)
    params = ThinkingParams(paths=8, seed=2, **{**SHORT, "max_path_tokens": 400})
    stream = model.stream("Why?", params)
    for _ in range(12):
        next(stream)
    stream.close()
    assert left_behind(model) == {}


async def leave_at_random(model, times, rng):
    async def one(number):
        params = ThinkingParams(
            paths=rng.choice((1, 3, 8)),
            seed=number,
            termination=rng.choice(("first-finish", "last-finish")),
            rounds=rng.choice((1, 1, 2)),
            **SHORT,
        )
        task = asyncio.ensure_future(model.athink(f"{QUESTIONS[number % 3]} {number}", params))
        await asyncio.sleep(rng.random() ** 2 * 0.6)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for first in range(0, times, 5):
        await asyncio.gather(*(one(first + i) for i in range(5)))


@pytest.mark.parametrize(
    "times", [25, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]
)
def test_whoever_leaves_at_any_moment_takes_no_memory_along(start, native, folder, times):
    model = start(folder)
    asyncio.run(leave_at_random(model, times, random.Random(times)))
    assert left_behind(model) == {}
    question, params = groups(4)[3]
    answer = model.think(question, params)
    assert tokens(answer) == tokens(native(folder).think(question, params))
    assert difference(folder, answer) <= TOLERANCE


def test_little_memory_makes_questions_wait_and_changes_no_answer(start, native, folder):
    # Paths and summaries are sent back, groups moved to the host and fetched again.
    model = start(folder, **LITTLE)
    check_all(model, native, folder, 9)
    questions = [f"Why? {i}" * (1 + i % 3) for i in range(6)]
    params = ThinkingParams(paths=8, termination="last-finish", seed=1, **SHORT)
    answers = [m.think(questions, params) for m in (model, native(folder))]
    assert [tokens(one) for one in answers[0]] == [tokens(one) for one in answers[1]]
    assert model.load().preemptions > 0
    assert holdings(model)["spills"] > 0
    assert holdings(model)["loads"] > 0


def test_who_leaves_while_memory_is_full_takes_none_along(start, native, folder):
    model = start(folder, **LITTLE)
    asyncio.run(leave_at_random(model, 25, random.Random(7)))
    assert left_behind(model) == {}
    question, params = groups(4)[3]
    assert tokens(model.think(question, params)) == tokens(native(folder).think(question, params))


def test_while_memory_is_full_questions_end_in_the_order_in_which_they_came(start, folder):
    model, order = start(folder, **LITTLE), []
    # All of one length, so that nobody is done early by itself.
    params = ThinkingParams(
        paths=4, termination="last-finish", seed=1, temperature=1.0, min_path_tokens=60,
        max_path_tokens=60, min_summary_tokens=20, max_summary_tokens=20,
    )  # fmt: skip

    async def ask(number):
        await model.athink(f"Why? {number}", params)
        order.append(number)

    async def ask_all():
        await asyncio.gather(*map(ask, range(6)))

    asyncio.run(ask_all())
    # Two that end in the same step may be heard of in either order.
    assert all(abs(place - number) <= 1 for place, number in enumerate(order)), order


def test_a_question_that_can_never_fit_is_refused_at_once(start, folder):
    model = start(folder, **LITTLE)
    with pytest.raises(CapacityError, match="max_model_len"):
        model.think("Why?", ThinkingParams(paths=16, max_path_tokens=100))


def test_questions_come_in_when_all_of_their_paths_can_be_written(start, native, folder):
    model = start(folder, max_num_seqs=8)
    check_all(model, native, folder, 9)
    with pytest.raises(CapacityError, match="max_num_seqs"):
        model.think("Why?", ThinkingParams(paths=9, **SHORT))
    # Paths that are given need none.
    given = [[[41 + i] for i in range(9)]]
    params = ThinkingParams(temperature=0.0, max_summary_tokens=4)
    answers = [m.summarize(["Why?"], given, params)[0] for m in (model, native(folder))]
    assert tokens(answers[0]) == tokens(answers[1])


def test_who_leaves_does_not_wait_for_those_who_stay(start, folder):
    model, ended = start(folder, max_num_seqs=8), []
    params = ThinkingParams(
        paths=8, termination="last-finish", seed=1, temperature=1.0, min_path_tokens=200,
        max_path_tokens=200, max_summary_tokens=4,
    )  # fmt: skip

    async def run():
        stream = model.astream("Why?", params)
        async for _ in stream:
            break
        others = [asyncio.ensure_future(model.athink(f"{i}", params)) for i in range(2)]
        for other in others:
            other.add_done_callback(ended.append)
        await asyncio.sleep(0)
        await stream.aclose()
        assert not ended
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(run())
    assert left_behind(model) == {}


def test_what_was_abandoned_is_forgotten_after_a_while(start, folder):
    """An asker that dies without a word: its paths' blocks come back by themselves."""
    from parathinker.backends.vllm.orders import Order
    from parathinker.backends.vllm.streams import Ask, Stream, stop_streams

    model = start(folder, abandoned_s=1.0)
    engine = model._engine

    async def abandon(llm):
        ask = Ask("lonely", list(range(40, 110)), 1, Order("lonely", keep="1.1"))
        stream = Stream(llm, ask)
        await stream.next()
        await stop_streams([stream])

    engine.ask(abandon)
    assert bytes_in_use(model) > 0
    time.sleep(1.2)
    assert left_behind(model) == {}


def test_who_comes_back_too_late_gets_an_error_and_no_wrong_answer(start, folder):
    from parathinker.backends.vllm.layout import Piece
    from parathinker.backends.vllm.orders import Order
    from parathinker.backends.vllm.streams import Ask, Stream, release
    from parathinker.errors import EngineError

    model = start(folder)

    async def too_late(llm):
        order = Order("gone", pieces=(Piece("1.1", 0, 40),))
        try:
            await Stream(llm, Ask("late", list(range(40, 90)), 5, order)).next()
        finally:
            await release(llm, "late-end", "gone", None)

    with pytest.raises(EngineError, match="gave up"):
        model._engine.ask(too_late)
    assert left_behind(model) == {}


def test_prompts_are_found_in_memory_again(start, folder):
    model = start(folder)
    model.forget_prefixes()
    question = "Something new that is long enough for two blocks of tokens, and more. " * 2
    params = ThinkingParams(paths=2, seed=1, **SHORT)
    first, second = model.think(question, params), model.think(question, params)
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens >= 128
    assert tokens(first) == tokens(second)


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ({"speculative_config": {"method": "ngram"}}, "speculative_config"),
        ({"kv_transfer_config": {}}, "kv_transfer_config"),
        ({"enable_prefix_caching": False}, "enable_prefix_caching"),
        ({"kv_cache_dtype": "fp8"}, "kv_cache_dtype"),
        ({"decode_context_parallel_size": 2}, "decode_context_parallel_size"),
        ({"prefill_context_parallel_size": 2}, "prefill_context_parallel_size"),
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size"),
        ({"enable_lora": True}, "enable_lora"),
        ({"kv_events_config": {"enable_kv_cache_events": True}}, "kv_events_config"),
        ({"kv_offloading_size": 1.0}, "kv_offloading_size"),
        ({"scheduler_cls": "mine.Scheduler"}, "scheduler_cls"),
        ({"scheduling_policy": "fcfs"}, "scheduling_policy"),
        ({"watermark_config": {}}, "watermark_config"),
        ({"data_parallel_rank": 0}, "data_parallel_rank"),
        ({"data_parallel_start_rank": 0}, "data_parallel_start_rank"),
        ({"data_parallel_external_lb": True}, "data_parallel_external_lb"),
        ({"data_parallel_hybrid_lb": True}, "data_parallel_hybrid_lb"),
        ({"no_such_argument": 1}, "no_such_argument"),
        ({"weights": "int8"}, "weights"),
        ({"device": "cuda"}, "device"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_what_would_go_wrong_is_refused_by_name(needs_vllm, folder, wish, name):
    with pytest.raises(UsageError, match=name):
        ParaThinker.from_pretrained(folder, backend="vllm", **wish)


@pytest.mark.parametrize("version", ["0.29.9", "0.33.0", "0.33.0rc1", "1.0", "dev"])
def test_a_vllm_that_was_not_tested_is_refused(needs_vllm, folder, monkeypatch, version):
    monkeypatch.setattr("vllm.__version__", version)
    with pytest.raises(UsageError, match=f"vLLM {version} is not supported"):
        ParaThinker.from_pretrained(folder, backend="vllm")


def test_where_triton_works_vllm_takes_our_sampler_all_the_same(start, folder, monkeypatch):
    # As on GPUs: there vLLM takes its second model runner unless it is told not to.
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)
    settings = start(folder)._engine._llm.vllm_config
    assert not settings.use_v2_model_runner
    monkeypatch.delenv(RUNNER)
    assert settings.use_v2_model_runner


def test_what_vllm_cannot_do_is_refused_by_name(start, folder):
    model = start(folder)
    first = model.think("Why?", ThinkingParams(paths=1, **SHORT))
    with pytest.raises(UsageError, match="after"):
        model.think("And then?", ThinkingParams(paths=1, **SHORT), after=first)
    with pytest.raises(UsageError, match="layout"):
        model.summarize(["Why?"], [[[41], [42]]], layout="chain")


def test_a_self_test_that_fails_names_the_difference(start, folder, monkeypatch):
    from parathinker.backends.vllm import selftest
    from parathinker.backends.vllm.sampling_params import RowParams
    from parathinker.errors import EngineError
    from parathinker.modeling.config import DecoderConfig
    from parathinker.prompt import PromptCodec

    model = start(folder)
    codec, config = PromptCodec.from_folder(folder), DecoderConfig.from_folder(folder)
    assert selftest.run_self_test(model._engine, codec, config) <= TOLERANCE
    # A rule that forgets who thought what: no engine may pass by it.
    monkeypatch.setattr(selftest, "words", lambda tokens, _: (np.arange(len(tokens)), 0))
    with pytest.raises(EngineError, match="answers wrongly"):
        selftest.run_self_test(model._engine, codec, config)
    monkeypatch.undo()
    # What our sampler should do is not said, so vLLM chooses by itself.
    monkeypatch.setattr(RowParams, "to_args", lambda self: {})
    with pytest.raises(EngineError, match="without our sampler"):
        selftest.run_self_test(model._engine, codec, config)


def test_a_closed_engine_says_so(needs_vllm, folder, start):
    from parathinker.errors import EngineError

    model = start(folder, max_num_seqs=31)
    params = ThinkingParams(paths=1, **SHORT)
    asked = model._prepare("Why?", params, None).request

    class ClosesWhileItIsRead(tuple):
        def __iter__(self):
            model.close()
            return super().__iter__()

    # It passed every check when the engine closed: it must not wait for ever.
    prompt = ClosesWhileItIsRead(asked.prompt)
    with pytest.raises(EngineError, match="closed"):
        model._engine.submit(replace(asked, prompt=prompt), None)
    with pytest.raises(EngineError, match="closed"):
        model.think("Why?", params)
