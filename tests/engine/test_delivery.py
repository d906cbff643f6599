"""Threads and event loops: streams, cancelling, closing, and what is free when they return."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import time
import weakref

import pytest

from parathinker import Done, EngineError, PathToken, ThinkingParams, UsageError
from thinkers import Faulty, assert_same, distance, no_leak, thinker, written

ASKED = ThinkingParams(
    paths=4,
    temperature=1.0,
    seed=3,
    max_path_tokens=24,
    max_summary_tokens=8,
    termination="last-finish",
)
ENDLESS = dataclasses.replace(ASKED, max_path_tokens=900, min_path_tokens=900)
QUESTIONS = ("What is 6 * 7?", "x", "Why is the sky blue, and the sea? " * 4)


@pytest.fixture
def folder(random_model):
    return random_model("llama", max_paths=16, seed=7)


@pytest.fixture
def model(folder):
    with thinker(folder, kv_tokens=8_000) as model, no_leak(model):
        yield model


def engine_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "parathinker-engine"]


def test_athink_gives_the_answer_that_think_gives(model, folder):
    expected = model.think(QUESTIONS[0], ASKED)
    assert_same(asyncio.run(model.athink(QUESTIONS[0], ASKED)), expected)
    several = asyncio.run(model.athink(list(QUESTIONS), ASKED))
    assert [written(a) for a in several] == [written(a) for a in model.think(QUESTIONS, ASKED)]
    follow_up = asyncio.run(model.athink("And then?", ASKED, after=expected))
    assert follow_up.after is expected
    assert distance(folder, follow_up) <= 1e-4


def test_gathered_questions_run_side_by_side(model):
    async def main() -> tuple[list, int]:
        asked = [model.athink(question, ASKED) for question in QUESTIONS * 4]
        tasks = [asyncio.ensure_future(one) for one in asked]
        most = 0
        while not all(task.done() for task in tasks):
            load = await asyncio.to_thread(model.load)
            most = max(most, load.running)
            await asyncio.sleep(0)
        return [task.result() for task in tasks], most

    answers, most = asyncio.run(main())
    assert most > 3
    for answer, expected in zip(answers, model.think(QUESTIONS * 4, ASKED), strict=True):
        assert_same(answer, expected)


def test_an_asynchronous_stream_tells_what_the_synchronous_one_tells(model):
    async def main() -> list:
        return [event async for event in model.astream(QUESTIONS[0], ASKED)]

    there, here = asyncio.run(main()), list(model.stream(QUESTIONS[0], ASKED))
    assert [type(event) for event in there] == [type(event) for event in here]
    assert_same(there[-1].answer, here[-1].answer)
    # Paths of one step come together, so that no reader sees one path run ahead.
    order = [event.thought_id for event in there if isinstance(event, PathToken)]
    assert order[:12] == [1, 1, 2, 2, 3, 3, 4, 4, 1, 2, 3, 4]  # first behind what opens it


def test_the_event_loop_goes_on_while_the_engine_works(model):
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        await model.athink(
            QUESTIONS[0], dataclasses.replace(ENDLESS, max_path_tokens=200, min_path_tokens=200)
        )
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 5


def test_cancelling_a_task_frees_its_memory_before_the_task_ends(model):
    async def main() -> None:
        task = asyncio.ensure_future(model.athink([QUESTIONS[2], "x"], ENDLESS))
        while (await asyncio.to_thread(model.load)).kv.in_use == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        load = model.load()
        assert (load.running, load.waiting, load.kv.in_use) == (0, 0, 0)

    asyncio.run(main())
    assert_same(model.think("x", ASKED), asyncio.run(model.athink("x", ASKED)))


def test_cancelling_a_task_again_and_again_still_frees_its_memory_before_the_task_ends(model):
    faulty = Faulty(model)
    faulty.before_forward = lambda: time.sleep(0.05)  # time enough to be cancelled again

    async def follow() -> None:
        async for _ in model.astream(QUESTIONS[0], ENDLESS):
            pass

    async def main() -> None:
        task = asyncio.ensure_future(follow())
        while faulty.forwards < 3:
            await asyncio.sleep(0.001)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.001)
        assert task.cancelled()
        assert not model._engine._scheduler.running  # asking for the load would wait

    asyncio.run(main())
    faulty.remove()


def test_cancelling_one_of_several_leaves_the_others_as_they_were(model):
    async def main() -> list:
        tasks = [asyncio.ensure_future(model.athink(q, ASKED)) for q in QUESTIONS]
        endless = asyncio.ensure_future(model.athink("Endless.", ENDLESS))
        await asyncio.sleep(0.01)
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(main())
    for answer, expected in zip(answers, model.think(QUESTIONS, ASKED), strict=True):
        assert_same(answer, expected)


@pytest.mark.parametrize("events", [0, 1, 50])
def test_closing_an_asynchronous_stream_frees_its_memory_at_once(model, events):
    async def main() -> None:
        stream = model.astream(QUESTIONS[0], ENDLESS)
        for _ in range(events):
            await anext(stream)
        await stream.aclose()
        assert model.load().kv.in_use == 0

    asyncio.run(main())


@pytest.mark.parametrize("events", [0, 1, 50])
def test_closing_a_stream_frees_its_memory_at_once(model, events):
    stream = model.stream(QUESTIONS[0], ENDLESS)
    for _ in range(events):
        next(stream)
    if events:
        assert model.load().kv.in_use > 0
    stream.close()
    assert model.load().kv.in_use == 0


def test_a_stream_that_is_dropped_is_cancelled(model):
    stream = model.stream(QUESTIONS[0], ENDLESS)
    next(stream)
    del stream
    gc.collect()
    assert model.load().kv.in_use == 0


def test_a_question_that_cannot_be_is_refused_before_a_stream_is_iterated(model):
    for ask in (model.stream, model.astream):
        with pytest.raises(UsageError, match="the question is empty"):
            ask("")
        with pytest.raises(UsageError, match="KV memory"):
            ask("x", dataclasses.replace(ASKED, paths=16, max_path_tokens=2_000))


def test_one_bad_question_stops_the_others(model):
    async def main() -> None:
        with pytest.raises(UsageError, match="empty"):
            await model.athink(["Well?", " "], ENDLESS)
        assert model.load().running == 0

    asyncio.run(main())


def test_an_event_loop_that_is_gone_takes_nobody_else_with_it(model):
    loop = asyncio.new_event_loop()
    stream = model.astream(QUESTIONS[0], ENDLESS)
    loop.run_until_complete(anext(stream))
    other = model.stream("x", ASKED)
    next(other)
    loop.close()
    events = list(other)
    assert isinstance(events[-1], Done)
    assert_same(events[-1].answer, model.think("x", ASKED))
    while model.load().running:  # nobody can be told, so it ends by itself
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_until_complete(stream.aclose())


def test_many_threads_may_ask_at_once(model):
    expected = [model.think(question, ASKED) for question in QUESTIONS]
    answers: dict[int, object] = {}

    def ask(number: int) -> None:
        answers[number] = model.think(QUESTIONS[number % 3], ASKED)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(12):
        assert_same(answers[number], expected[number % 3])


def test_closing_the_model_fails_what_is_under_way_and_what_comes_after(folder):
    model = thinker(folder)
    stream = model.stream(QUESTIONS[0], ENDLESS)
    next(stream)
    model.close()
    with pytest.raises(EngineError, match="closed before this request was done"):
        list(stream)
    with pytest.raises(EngineError, match="this engine is closed"):
        model.think("x", ASKED)
    assert model.load().kv.in_use == 0
    model.close()
    stream.close()


def test_the_engines_thread_ends_when_nobody_asks_and_starts_again(folder):
    before = set(engine_threads())
    model = thinker(folder)
    first = model.think("x", ASKED)
    [thread] = set(engine_threads()) - before
    thread.join(10)
    assert not thread.is_alive()
    assert_same(model.think("x", ASKED), first)
    model.close()


@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_while_the_engines_thread_starts_leaves_an_engine_that_works(
    model, folder, begun, monkeypatch
):
    expected = model.think("x", ASKED)
    before = set(engine_threads())
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        if begun:
            start(thread)
        raise KeyboardInterrupt

    fresh = thinker(folder)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fresh.think("x", ASKED)
    assert_same(fresh.think("x", ASKED), expected)
    fresh.close()
    for thread in set(engine_threads()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_a_model_that_is_let_go_of_leaves_memory(folder):
    model = thinker(folder)
    model.think("x", ASKED)
    stream = model.stream("x", ENDLESS)
    next(stream)
    stream.close()
    gone = weakref.ref(model._engine._pool)
    del model, stream
    end = time.monotonic() + 10
    while gone() is not None and time.monotonic() < end:
        time.sleep(0.05)
        gc.collect()
    assert gone() is None


def test_forwards_stop_when_nobody_waits_for_them(folder):
    model = thinker(folder)
    faulty = Faulty(model)
    stream = model.stream("x", ENDLESS)
    next(stream)
    stream.close()
    done = faulty.forwards
    time.sleep(0.2)
    assert faulty.forwards == done
