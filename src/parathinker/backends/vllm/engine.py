"""vLLM behind the protocol that the native engine offers: a thread with vLLM's event loop in it."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import multiprocessing
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from parathinker.backends.vllm.course import Course
from parathinker.backends.vllm.environment import interrupts_kept_from_children
from parathinker.backends.vllm.limits import Limits
from parathinker.backends.vllm.meter import Meter
from parathinker.backends.vllm.seats import Seats
from parathinker.engine.protocol import EngineLoad, Sink
from parathinker.engine.request import EngineRequest
from parathinker.engine.running import RunningRequest
from parathinker.errors import EngineError, ParaThinkerError
from parathinker.tokens import ControlTokens

_T = TypeVar("_T")
_engines: weakref.WeakSet[VLLMEngine] = weakref.WeakSet()


@atexit.register
def _end_engines() -> None:
    """vLLM's processes should not outlive ours."""
    for engine in list(_engines):
        engine.close()


@dataclass(eq=False)
class Job:
    """A question under way."""

    course: Course
    running: RunningRequest
    sink: Sink
    seats: Seats
    """Of the engine that it stays on."""
    task: asyncio.Task[None] | None = None


class VLLMEngine:
    """Runs requests on vLLM; any number at once.

    Args:
        start: makes vLLM's asynchronous engine; called in the event loop that it will live in.
        control: None where the model has none; then it takes plain requests only.
        banned: tokens that no segment may hold, but for its own closing token.

    Raises:
        EngineError: vLLM does not start.
    """

    def __init__(
        self,
        start: Callable[[Meter], Any],
        limits: Callable[[Any], Limits],
        control: ControlTokens | None,
        banned: frozenset[int],
    ) -> None:
        self._control, self._banned = control, banned
        self._meter = Meter()
        self._jobs: set[Job] = set()
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex[:8]
        self._lock = threading.Lock()
        """Held while something is handed to the event loop: what is goes before its end."""
        self._closed = self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="parathinker-vllm", daemon=True
        )
        self._thread.start()

        async def begin() -> tuple[Any, Limits]:
            with interrupts_kept_from_children():
                llm = start(self._meter)
            return llm, limits(llm)

        others = multiprocessing.active_children()
        try:
            self._llm: Any
            self._llm, self.limits = self._ask(begin())
        except BaseException:
            # Who is interrupted need not wait until vLLM has started; its workers end with them.
            for child in multiprocessing.active_children():
                if child not in others:
                    child.kill()
            self._stop_loop()
            raise
        self._seats = [Seats(self.limits.seats) for _ in range(self.limits.ranks)]
        _engines.add(self)

    def check(self, request: EngineRequest) -> None:
        """As :meth:`ThinkingEngine.check`."""
        self.limits.check(request)

    @property
    def alive(self) -> bool:
        """As :meth:`ThinkingEngine.alive`; vLLM's own processes may die, too."""
        return not (self._closed or self._llm.errored)

    def submit(self, request: EngineRequest, sink: Sink) -> Job:
        """As :meth:`ThinkingEngine.submit`."""
        self.check(request)
        running = RunningRequest(request, self._control, self._banned)
        with self._lock:
            if self._closed:
                raise EngineError("this engine is closed")
            if not self.alive:
                raise EngineError("this engine is closed: vLLM broke down")
            number, ranks = next(self._numbers), self.limits.ranks
            course = Course(
                self._llm,
                running,
                self._control,
                self._banned,
                f"{self._name}-{number}",
                number,
                number % ranks if ranks > 1 else None,
            )
            job = Job(course, running, sink, self._seats[number % ranks])
            self._loop.call_soon_threadsafe(self._begin, job)
        return job

    def cancel(self, job: Job) -> None:
        """As :meth:`ThinkingEngine.cancel`; whatever is asked next finds the memory free."""
        if threading.current_thread() is self._thread:
            self._loop.call_soon_threadsafe(self._end, job)
            return
        with suppress(EngineError):  # closing ended it
            self._ask(self._ended(job))

    def load(self) -> EngineLoad:
        """As :meth:`ThinkingEngine.load`."""
        jobs = list(self._jobs)
        begun = sum(job.course.begun for job in jobs)
        limits = self.limits
        tokens = limits.blocks * limits.block_tokens
        return self._meter.load(begun, len(jobs) - begun, tokens, limits.bytes_per_token)

    def forget_prefixes(self) -> None:
        """As :meth:`ThinkingEngine.forget_prefixes`."""
        if not self._closed:
            self.ask(lambda llm: llm.reset_prefix_cache())

    def close(self) -> None:
        """As :meth:`ThinkingEngine.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread is threading.current_thread():
            return

        async def end() -> None:
            jobs = list(self._jobs)
            for job in jobs:
                self._end(job, tell=EngineError("the engine was closed before this was done"))
            await asyncio.gather(
                *(job.task for job in jobs if job.task is not None), return_exceptions=True
            )
            self._llm.shutdown()

        with suppress(Exception):
            self._ask(end())
        self._stop_loop()
        # Left to the interpreter's end, what vLLM does when it is deleted would fail.
        self._llm = None

    def ask(self, work: Callable[[Any], Coroutine[Any, Any, _T]]) -> _T:
        """Have something else done by vLLM, such as the self-test."""

        async def asked() -> _T:
            return await work(self._llm)

        return self._ask(asked())

    # -- in the event loop ----------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        self._jobs.add(job)
        job.task = self._loop.create_task(self._run(job))
        job.task.add_done_callback(lambda _: self._jobs.discard(job))

    async def _run(self, job: Job) -> None:
        try:
            async with job.seats.taken(self.limits.seats_for(job.running.request)) as seats:
                await job.course.run(job.sink, seats)
            outcome: ParaThinkerError | None = None
        except asyncio.CancelledError:
            return
        except ParaThinkerError as error:
            outcome = error
        except Exception as error:
            outcome = EngineError(f"the request failed: {type(error).__name__}: {error}")
            outcome.__cause__ = error
        # A sink may be gone, with its event loop: then nobody is there to be told.
        with suppress(Exception):
            if outcome is None:
                job.sink.finished(job.running)
            else:
                job.sink.failed(outcome)

    def _end(self, job: Job, tell: ParaThinkerError | None = None) -> None:
        if job.task is not None and not job.task.done():
            job.task.cancel()
            if tell is not None:
                with suppress(Exception):
                    job.sink.failed(tell)

    async def _ended(self, job: Job) -> None:
        self._end(job)
        if job.task is not None:
            await asyncio.gather(job.task, return_exceptions=True)

    # -- for other threads ----------------------------------------------------------------------

    def _ask(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._lock:
            if self._stopped:
                work.close()
                raise EngineError("this engine is closed")
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result()
        except CancelledError:
            raise EngineError("this engine was closed before this was done") from None

    def _stop_loop(self) -> None:
        async def drop_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=5)
            self._loop.stop()

        with self._lock:
            self._stopped = True
            asyncio.run_coroutine_threadsafe(drop_all(), self._loop)
        self._thread.join()
