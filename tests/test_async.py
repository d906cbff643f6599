"""The event loop's side of the public door: answers, streams, cancelling, loops that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from parathinker import (
    CapacityError,
    Done,
    EngineError,
    ParaThinker,
    PathToken,
    ThinkingParams,
    UsageError,
)

SHORT = ThinkingParams(paths=3, max_path_tokens=8, max_summary_tokens=4, seed=1)
LONG = ThinkingParams(
    paths=4, min_path_tokens=1500, max_path_tokens=1600, termination="last-finish", seed=1
)


@pytest.fixture(scope="module")
def thinker(tiny_random_model: Path) -> Iterator[ParaThinker]:
    with ParaThinker.from_pretrained(tiny_random_model, threads=1) as thinker:
        yield thinker


def test_answers_are_those_of_the_blocking_calls(thinker: ParaThinker) -> None:
    async def main() -> list[object]:
        single = await thinker.athink("Well?", SHORT)
        several = await thinker.athink(["Well?", "Why?"], SHORT)
        events = [event async for event in thinker.astream("Well?", SHORT)]
        assert isinstance(events[-1], Done)
        return [answer.to_dict()["paths"] for answer in (single, several[0], events[-1].answer)]

    expected = thinker.think("Well?", SHORT).to_dict()["paths"]
    for paths in asyncio.run(main()):
        assert [p["token_ids"] for p in paths] == [p["token_ids"] for p in expected]


def test_the_loop_goes_on_while_the_model_thinks(thinker: ParaThinker) -> None:
    async def main() -> int:
        turns = 0
        task = asyncio.ensure_future(thinker.athink("Well?", SHORT))
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) > 5


def test_cancelling_a_task_frees_its_memory(thinker: ParaThinker) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(thinker.athink(["Well?", "Why?"], LONG))
        while thinker.load().running < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        load = thinker.load()
        assert (load.running, load.waiting, load.kv.in_use) == (0, 0, 0)

    asyncio.run(main())


def test_leaving_a_stream_frees_its_memory(thinker: ParaThinker) -> None:
    async def main() -> None:
        async with aclosing(thinker.astream("Well?", LONG)) as events:
            async for event in events:
                assert isinstance(event, PathToken)
                break
        assert thinker.load().kv.in_use == 0

    asyncio.run(main())


def test_one_bad_question_stops_the_others(thinker: ParaThinker) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="empty"):
            await thinker.athink(["Well?", " "], LONG)
        assert thinker.load().running == 0

    asyncio.run(main())


def test_a_loop_that_is_gone_harms_nobody(thinker: ParaThinker) -> None:
    loop = asyncio.new_event_loop()
    events = thinker.astream("Well?", LONG)
    loop.run_until_complete(anext(events))
    loop.close()
    del events
    assert thinker.think("Well?", SHORT).text is not None
    end = time.monotonic() + 60
    while thinker.load().running:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert thinker.load().kv.in_use == 0


def test_what_cannot_fit_is_refused_before_a_stream_is_read(tiny_random_model: Path) -> None:
    with ParaThinker.from_pretrained(tiny_random_model, kv_cache_memory="64KiB") as small:
        for stream in (small.stream, small.astream):
            with pytest.raises(CapacityError, match="kv_cache_memory is 64 KiB"):
                stream("Well?", LONG)


def test_closing_the_engine_fails_what_is_under_way(tiny_random_model: Path) -> None:
    thinker = ParaThinker.from_pretrained(tiny_random_model)

    async def main() -> None:
        task = asyncio.ensure_future(thinker.athink("Well?", LONG))
        while not thinker.load().running:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(thinker.close)
        with pytest.raises(EngineError, match="closed before"):
            await task
        with pytest.raises(EngineError, match="is closed"):
            await thinker.athink("Well?", SHORT)

    asyncio.run(main())
