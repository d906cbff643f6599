"""What goes wrong in one request stays there, comes out typed, and leaves no trace."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest

from parathinker import (
    Done,
    EngineError,
    NumericalError,
    ParaThinker,
    ParaThinkerError,
    ThinkingParams,
)
from thinkers import ENGINES, TOLERANCE, Faulty, assert_same, distance, no_leak, shared, thinker

ASKED = ThinkingParams(
    paths=3,
    temperature=1.0,
    seed=5,  # its draws keep clear of borders between tokens, whatever way sums are rounded
    max_path_tokens=20,
    max_summary_tokens=6,
    termination="last-finish",
)
UNSOUND = dataclasses.replace(ASKED, top_k=Faulty.UNSOUND_TOP_K)
QUESTIONS = ("What is 6 * 7?", "x", "Why is the sky blue, and the sea? " * 3)


@pytest.fixture
def folder(random_model):
    return random_model("llama", max_paths=16, seed=7)


def check_survivors(folder, model: ParaThinker, streams) -> None:
    for question, stream in zip(QUESTIONS, streams, strict=True):
        answer = list(stream)[-1].answer
        assert distance(folder, answer) <= TOLERANCE
        assert_same(answer, shared(folder).think(question, ASKED))


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_in_one_requests_logits_fails_that_request_alone(folder, engine):
    model = thinker(folder, engine, kv_tokens=1_000)
    faulty = Faulty(model)
    with no_leak(model):
        streams = [model.stream(question, ASKED) for question in QUESTIONS]
        broken = model.stream("Broken.", UNSOUND)
        for stream in streams:
            next(stream)
        with pytest.raises(NumericalError, match=r"logits are not finite at token 1 of path 1"):
            next(broken)
        check_survivors(folder, model, streams)
        faulty.remove()
        assert isinstance(list(model.stream("Broken.", ASKED))[-1], Done)


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_that_was_stored_is_gone_before_others_get_that_memory(folder, engine):
    model = thinker(folder, engine, kv_tokens=400)
    faulty = Faulty(model)
    with no_leak(model):
        for _ in range(3):
            faulty.poisoning = True
            for question in ("Poison: \a, then more of it." * 3, "\a"):
                with pytest.raises(NumericalError, match="not finite"):
                    model.think(question, dataclasses.replace(ASKED, path_prefix="\a"))
            faulty.poisoning = False  # the model may write that character, too
            for question in QUESTIONS:
                assert distance(folder, model.think(question, ASKED)) <= TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_of_a_request_that_left_before_anyone_noticed_is_gone_too(folder, engine):
    model = thinker(folder, engine, kv_tokens=400, max_batch_tokens=4)
    faulty = Faulty(model)
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if faulty.forwards == 5:
            entered.set()
            assert go_on.wait(10)

    faulty.before_forward, faulty.poisoning = hold, True
    with no_leak(model):

        async def leave_while_the_prompt_is_read() -> None:
            task = asyncio.ensure_future(model.athink("\a" * 200, ASKED))
            await asyncio.to_thread(entered.wait, 10)
            task.cancel()
            await asyncio.sleep(0.01)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(leave_while_the_prompt_is_read())
        assert 5 <= faulty.forwards <= 7
        faulty.poisoning = False
        # More than all of the memory, so that every block of it is used again.
        for question in [*QUESTIONS, *(f"{i}: another question" * 5 for i in range(4))]:
            assert distance(folder, model.think(question, ASKED)) <= TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_a_poisoned_prefix_is_not_handed_on(folder, engine):
    model = thinker(folder, engine, kv_tokens=1_000)
    faulty = Faulty(model)
    faulty.poisoning = True
    question = "A long beginning that is shared, with a \a in it, and then its end"
    with pytest.raises(NumericalError):
        model.think(question, ASKED)
    faulty.remove()  # whatever it was has been repaired
    answer = model.think(question, ASKED)
    assert answer.usage.cached_tokens == 0
    assert distance(folder, answer) <= TOLERANCE


def test_a_stop_text_check_that_raises_fails_its_request_alone(folder):
    model = thinker(folder)
    prepare = model._preparer.prepare

    def prepared(question, params, after=None):
        found = prepare(question, params, after)
        if params.stop:
            calls = []

            def raising(tokens):
                calls.append(tokens)
                if len(calls) > 10:
                    raise ZeroDivisionError("in the callback")
                return False

            request = dataclasses.replace(found.request, stop=raising)
            found = dataclasses.replace(found, request=request)
        return found

    model._preparer.prepare = prepared
    with no_leak(model):
        streams = [model.stream(question, ASKED) for question in QUESTIONS]
        for stream in streams:
            next(stream)
        with pytest.raises(EngineError, match="ZeroDivisionError: in the callback") as caught:
            model.think("x", dataclasses.replace(ASKED, stop=("never",)))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        check_survivors(folder, model, streams)


def test_a_forward_that_raises_fails_its_requests_typed_and_the_next_are_fine(folder):
    model = thinker(folder)
    faulty = Faulty(model)

    def fail() -> None:
        if faulty.forwards == 4:
            raise MemoryError("no more")

    faulty.before_forward = fail
    with no_leak(model):
        with pytest.raises(EngineError, match=r"a forward failed: MemoryError: no more") as caught:
            model.think(QUESTIONS, ASKED)
        assert isinstance(caught.value.__cause__, MemoryError)
        assert isinstance(caught.value, ParaThinkerError)
        check_survivors(folder, model, [model.stream(q, ASKED) for q in QUESTIONS])


def test_one_failure_in_a_list_cancels_the_rest_of_the_list(folder):
    model = thinker(folder)
    Faulty(model).poisoning = True
    with no_leak(model):
        with pytest.raises(NumericalError):
            model.think([*QUESTIONS, "Poison: \a"], ASKED)
        assert model.load().running == 0

        async def main() -> None:
            with pytest.raises(NumericalError):
                await model.athink([*QUESTIONS, "Poison: \a"], ASKED)
            assert model.load().running == 0

        asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_breaks_leaves_nobody_waiting(folder):
    model = thinker(folder)

    def broken() -> None:
        raise AssertionError("the scheduler is broken")

    streams = [
        model.stream(question, dataclasses.replace(ASKED, max_path_tokens=300, min_path_tokens=300))
        for question in QUESTIONS
    ]
    for stream in streams:
        next(stream)
    model._engine._scheduler.schedule = broken
    for stream in streams:
        with pytest.raises(EngineError, match="the engine broke: AssertionError: the scheduler"):
            list(stream)
    with pytest.raises(EngineError, match="this engine is closed"):
        model.think("x", ASKED)
    assert model.load().kv.in_use == 0
    for thread in threading.enumerate():
        if thread.name == "parathinker-engine":
            thread.join(10)  # its traceback is this test's
    model.close()
