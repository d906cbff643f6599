"""From the engine's thread to whoever asked: events by a queue, for threads and for event loops.

Both kinds of iterator cancel their request when they are closed before its end, and the memory is
free when closing returns.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from parathinker.answer import Answer, Done, StreamEvent
from parathinker.engine.protocol import ThinkingEngine
from parathinker.engine.request import Event
from parathinker.engine.running import RunningRequest
from parathinker.errors import ParaThinkerError
from parathinker.outcome import Narrator
from parathinker.prepare import Prepared

Item = Sequence[Event] | RunningRequest | ParaThinkerError


class _ToThread:
    """A sink that any thread can read from."""

    def __init__(self, *, only_the_end: bool = False) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._only_the_end = only_the_end

    def events(self, events: Sequence[Event]) -> None:
        if not self._only_the_end:
            self._queue.put(events)

    def finished(self, running: RunningRequest) -> None:
        self._queue.put(running)

    def failed(self, error: ParaThinkerError) -> None:
        self._queue.put(error)

    def get(self) -> Item:
        return self._queue.get()


class _ToLoop:
    """A sink that a coroutine can read from."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Item] = asyncio.Queue()

    def _put(self, item: Item) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def events(self, events: Sequence[Event]) -> None:
        self._put(events)

    def finished(self, running: RunningRequest) -> None:
        self._put(running)

    def failed(self, error: ParaThinkerError) -> None:
        self._put(error)

    async def get(self) -> Item:
        return await self._queue.get()


def run_all(engine: ThinkingEngine, prepared: Sequence[Prepared]) -> list[RunningRequest]:
    """Run requests together to their ends.

    Raises:
        ParaThinkerError: one of them failed; the others are cancelled then.
    """
    sinks = [_ToThread(only_the_end=True) for _ in prepared]
    jobs = []
    done: list[RunningRequest] = []
    try:
        for one, sink in zip(prepared, sinks, strict=True):
            jobs.append(engine.submit(one.request, sink))
        for sink in sinks:
            item = sink.get()
            if isinstance(item, ParaThinkerError):
                raise item
            assert isinstance(item, RunningRequest)
            done.append(item)
    finally:
        for job in jobs[len(done) :]:
            engine.cancel(job)
    return done


def events(engine: ThinkingEngine, prepared: Prepared, narrator: Narrator) -> Iterator[StreamEvent]:
    """One request's events, the last one ``Done``; it starts when first iterated."""
    sink = _ToThread()
    job = engine.submit(prepared.request, sink)
    try:
        while True:
            item = sink.get()
            if isinstance(item, ParaThinkerError):
                raise item
            if isinstance(item, RunningRequest):
                yield narrator.close(item)
                return
            yield from narrator.tell(item)
    finally:
        engine.cancel(job)


async def async_events(
    engine: ThinkingEngine, prepared: Prepared, narrator: Narrator
) -> AsyncGenerator[StreamEvent, None]:
    """The same in an event loop, which is never held up by the engine."""
    sink = _ToLoop()
    job = engine.submit(prepared.request, sink)
    ended = False
    try:
        while not ended:
            item = await sink.get()
            if isinstance(item, RunningRequest):
                ended = True
                yield narrator.close(item)
            elif isinstance(item, ParaThinkerError):
                ended = True
                raise item
            else:
                for event in narrator.tell(item):
                    yield event
    finally:
        if not ended:
            await _cancel(engine, job)


async def _cancel(engine: ThinkingEngine, job: Any) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # the loop is gone, and the iterator is being collected
        engine.cancel(job)
        return
    leaving = asyncio.ensure_future(asyncio.to_thread(engine.cancel, job))
    again: asyncio.CancelledError | None = None
    while not leaving.done():
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError as error:
            again = error  # whoever cancels twice still finds the memory free
    if again is not None:
        raise again


async def async_answer(engine: ThinkingEngine, prepared: Prepared, narrator: Narrator) -> Answer:
    """One request's answer; cancelling the task cancels the request."""
    stream = async_events(engine, prepared, narrator)
    try:
        async for event in stream:
            last = event
    finally:
        await stream.aclose()
    assert isinstance(last, Done)
    return last.answer
