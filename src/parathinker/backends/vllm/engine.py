"""vLLM behind the protocol that the native engine offers: a thread with vLLM's event loop in it."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from parathinker.backends.vllm.course import Course
from parathinker.backends.vllm.meter import Meter
from parathinker.engine.protocol import EngineLoad, Sink
from parathinker.engine.request import EngineRequest
from parathinker.engine.running import RunningRequest
from parathinker.errors import CapacityError, EngineError, ParaThinkerError, UsageError
from parathinker.graph import Layout
from parathinker.tokens import ControlTokens

_T = TypeVar("_T")
_engines: weakref.WeakSet[VLLMEngine] = weakref.WeakSet()


@atexit.register
def _end_engines() -> None:
    """vLLM's processes should not outlive ours."""
    for engine in list(_engines):
        engine.close()


@dataclass(frozen=True)
class Limits:
    """What vLLM can hold, known once it has started."""

    context: int
    """Tokens of one sequence: of prompt, paths and summary together."""
    blocks: int
    block_tokens: int
    bytes_per_token: int
    ranks: int
    """Data-parallel engines; a question stays on one."""


@dataclass(eq=False)
class Job:
    """A question under way."""

    course: Course
    running: RunningRequest
    sink: Sink
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
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="parathinker-vllm", daemon=True
        )
        self._thread.start()

        async def begin() -> tuple[Any, Limits]:
            llm = start(self._meter)
            return llm, limits(llm)

        try:
            self._llm: Any
            self._llm, self.limits = self._ask(begin())
        except BaseException:
            self._stop_loop()
            raise
        _engines.add(self)

    def check(self, request: EngineRequest) -> None:
        """As :meth:`ThinkingEngine.check`."""
        if request.history:
            raise UsageError(
                "after is not supported by the vLLM backend; ask with the conversation's messages, "
                "or use the native engine"
            )
        if request.layout is not Layout.PARALLEL:
            raise UsageError(
                f"layout {request.layout.value!r} is not supported by the vLLM backend; it has "
                "'parallel' only"
            )
        tokens, limits = tokens_needed(request), self.limits
        # One block of vLLM's is never given out.
        room = min(limits.context, (limits.blocks // limits.ranks - 1) * limits.block_tokens)
        if tokens > room:
            raise CapacityError(
                f"this request may need {tokens} tokens ({len(request.thought_ids) or 1} paths of "
                f"up to {request.path.max_tokens}, a prompt of {len(request.prompt)}), and vLLM "
                f"holds {room} of one question; ask for fewer paths or a smaller max_path_tokens, "
                "or give it more with max_model_len and gpu_memory_utilization"
            )

    @property
    def alive(self) -> bool:
        """As :meth:`ThinkingEngine.alive`; vLLM's own processes may die, too."""
        return not (self._closed or self._llm.errored)

    def submit(self, request: EngineRequest, sink: Sink) -> Job:
        """As :meth:`ThinkingEngine.submit`."""
        self.check(request)
        if self._closed:
            raise EngineError("this engine is closed")
        if not self.alive:
            raise EngineError("this engine is closed: vLLM broke down")
        running = RunningRequest(request, self._control, self._banned)
        number = next(self._numbers)
        ranks = self.limits.ranks
        course = Course(
            self._llm,
            running,
            self._control,
            self._banned,
            f"{self._name}-{number}",
            number % ranks if ranks > 1 else None,
        )
        job = Job(course, running, sink)
        self._loop.call_soon_threadsafe(self._begin, job)
        return job

    def cancel(self, job: Job) -> None:
        """As :meth:`ThinkingEngine.cancel`; returns when the memory is free."""
        if self._closed:
            return  # closing ended it
        if threading.current_thread() is self._thread:
            self._loop.call_soon_threadsafe(self._end, job)
        else:
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
            self._ask(self._llm.reset_prefix_cache())

    def close(self) -> None:
        """As :meth:`ThinkingEngine.close`."""
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
        return self._ask(work(self._llm))

    # -- in the event loop ----------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        self._jobs.add(job)
        job.task = self._loop.create_task(self._run(job))
        job.task.add_done_callback(lambda _: self._jobs.discard(job))

    async def _run(self, job: Job) -> None:
        try:
            await job.course.run(job.sink)
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
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def tokens_needed(request: EngineRequest) -> int:
    """Tokens that the last summary reads at most, its own included."""
    paths = len(request.thought_ids)
    in_paths = paths * (1 + request.path.max_tokens)
    if request.given_paths is not None:
        in_paths = sum(len(path) + 2 for path in request.given_paths)
    if request.budget is not None:
        in_paths = min(in_paths, request.budget + paths)
    summary = 1 + len(request.summary_prefix) + request.summary.max_tokens
    return len(request.prompt) + request.rounds * (in_paths + summary)
