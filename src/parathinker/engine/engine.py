"""The engine: a thread that runs one forward after another for all requests that are there.

Requests come from any thread or event loop; what happens to them is told to their sinks. Between
two forwards requests join, leave and are cancelled, each with its memory.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch, Read
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.memory import is_short
from parathinker.engine.placement import Placement, StepInput
from parathinker.engine.protocol import EngineLoad, Sink
from parathinker.engine.request import EngineRequest
from parathinker.engine.runner import Runner
from parathinker.engine.running import RunningRequest
from parathinker.engine.sampler import Sampled, with_likeliest
from parathinker.engine.scheduler import Job, Scheduler
from parathinker.errors import CapacityError, EngineError, ParaThinkerError
from parathinker.tokens import ControlTokens

_T = TypeVar("_T")
_REST_S = 1.0
"""Seconds without work after which the thread ends; the next request starts another."""


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _end_threads() -> None:
    """A thread that is still inside PyTorch when the interpreter goes would abort the process."""
    for engine in list(_engines):
        engine.close()


@dataclass(frozen=True)
class EngineOptions:
    """How large the engine may be."""

    kv_blocks: int
    max_tokens: int
    """Tokens of a forward: longer prompts are read in several."""
    max_rows: int = 128
    """Paths that grow side by side, over all requests."""


class Engine:
    """Runs requests on one runner; any number at once, in any phase, in one forward a step.

    Args:
        control: None where the model has none; then it takes plain requests only.
        banned: tokens that no segment may hold, but for its own closing token.
    """

    def __init__(
        self,
        runner: Runner,
        control: ControlTokens | None,
        banned: frozenset[int],
        options: EngineOptions,
    ) -> None:
        self._runner, self._control, self._banned = runner, control, banned
        self._pool = KVPool(
            runner.config,
            options.kv_blocks,
            runner.device,
            runner.dtype,
            partial(is_short, runner.device),
        )
        self._scheduler = Scheduler(self._pool, options.max_tokens, options.max_rows)
        self._sinks: dict[int, Sink] = {}
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        self._orders: deque[Callable[[], None]] = deque()
        self._closed = self._broken = False
        self._thread: threading.Thread | None = None
        """None where nobody wants one; of a closed engine the last, which may not be over yet."""
        self._holder: int | None = None
        """The thread that holds the lock to place an order."""
        _engines.add(self)

    # -- for any thread -------------------------------------------------------------------------

    def blocks_needed(self, request: EngineRequest) -> int:
        """Blocks that a request takes at most, all by itself."""
        paths, longest = len(request.thought_ids), 1 + request.path.max_tokens
        in_all = paths * longest
        if request.budget is not None:
            in_all = min(in_all, request.budget + paths)
        summary = 1 + len(request.summary_prefix) + request.summary.max_tokens
        past = [
            n
            for turn in request.history
            for n in (
                len(turn.prompt),
                *(len(tokens) for r in turn.rounds for _, tokens in r.paths),
                *(len(r.summary) for r in turn.rounds),
            )
        ]
        lengths = [*past, len(request.prompt), *[summary] * request.rounds]
        # However the paths' tokens fall, each path may leave one block partly empty.
        in_rounds = request.rounds * min(
            paths * -(-longest // BLOCK_TOKENS), in_all // BLOCK_TOKENS + paths
        )
        return in_rounds + sum(-(-n // BLOCK_TOKENS) for n in lengths)

    def check(self, request: EngineRequest) -> None:
        """Make sure that a request can be done.

        Raises:
            CapacityError: it cannot fit into the KV memory even if it has all of it.
        """
        needed = self.blocks_needed(request)
        if needed > self._pool.blocks:
            block = self._pool.bytes_per_token * BLOCK_TOKENS
            raise CapacityError(
                f"this request may need {_size(needed * block)} of KV memory ("
                f"{len(request.thought_ids) or 1} paths of up to {request.path.max_tokens} tokens, "
                f"a prompt of {len(request.prompt)}, {_size(self._pool.bytes_per_token)} a token), "
                f"and kv_cache_memory is {_size(self._pool.blocks * block)}; ask for fewer paths "
                "or a smaller max_path_tokens, or give the engine more memory"
            )

    @property
    def alive(self) -> bool:
        """As :meth:`ThinkingEngine.alive`."""
        return not self._closed

    def submit(self, request: EngineRequest, sink: Sink) -> Job:
        """Hand a request in.

        Raises:
            CapacityError: as :meth:`check`.
            EngineError: the engine is closed, or broke down.
        """
        self.check(request)
        running = RunningRequest(request, self._control, self._banned)
        job = Job(next(self._arrivals), running, Placement(running, self._pool))

        def enter() -> None:
            self._sinks[job.arrival] = sink
            self._scheduler.add(job)

        self._order(enter)
        return job

    def cancel(self, job: Job) -> None:
        """Drop a request and free its memory, at the latest when the forward under way is done.

        Returns when that has happened; if the engine's own thread asks (a sink, or the garbage
        collector that finds an abandoned stream), it happens before the next forward. The sink
        hears no more of it. Nothing happens if the request is over already.
        """

        def leave() -> None:
            if self._sinks.pop(job.arrival, None) is not None:
                self._scheduler.remove(job)

        # The garbage collector may find an abandoned stream in the engine's own thread, or in one
        # that is just placing an order: neither may wait for the engine.
        if self._thread is threading.current_thread() or self._holder == threading.get_ident():
            self._orders.append(leave)
        else:
            self._ask(leave)

    def load(self) -> EngineLoad:
        """What is running and waiting, and the KV memory in use."""

        def look() -> EngineLoad:
            tokens: dict[int, int] = {}
            for job in self._scheduler.running:
                for block, count in job.placement.tokens_by_block():
                    tokens[block] = max(tokens.get(block, 0), count)
            scheduler, products = self._scheduler, self._runner.products
            return EngineLoad(
                len(scheduler.running),
                len(scheduler.waiting),
                scheduler.preemptions,
                self._pool.usage(sum(tokens.values())),
                None if products is None else dict(products),
            )

        return self._ask(look)

    def forget_prefixes(self) -> None:
        """Drop what is kept of earlier prompts."""
        self._ask(self._pool.forget)

    def close(self) -> None:
        """End the thread; requests that are not done fail. The engine takes no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread not in (None, threading.current_thread()):
            thread.join()

    def _order(self, action: Callable[[], None]) -> None:
        """Have the engine's thread do something between two forwards."""
        with self._changed:
            if self._broken:
                raise EngineError("this engine is closed: it broke down")
            if self._closed:
                raise EngineError("this engine is closed")
            self._holder = threading.get_ident()
            try:
                if self._thread is None:
                    self._start()
                self._orders.append(action)
            finally:
                self._holder = None
            self._changed.notify()

    def _start(self) -> None:
        """Start the engine's thread, or, if that is interrupted, have none."""
        self._thread = threading.Thread(target=self._work, name="parathinker-engine", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._thread = None
            raise

    def _ask(self, action: Callable[[], _T]) -> _T:
        """The same, waiting for its result."""
        done: list[_T] = []
        event = threading.Event()

        def act() -> None:
            try:
                done.append(action())
            finally:
                event.set()

        with self._changed:
            self._holder = threading.get_ident()
            thread, closed = self._thread, self._closed
            if thread in (None, threading.current_thread()):
                self._holder = None
                return action()
            if not closed:
                self._orders.append(act)
                self._changed.notify()
            self._holder = None
        if closed:
            thread.join()
            return action()
        event.wait()
        return done[0]

    # -- the engine's own thread ----------------------------------------------------------------

    def _work(self) -> None:
        with self._changed:
            if self._thread is not threading.current_thread():
                return  # whoever started it was interrupted
        try:
            while self._carry_out_orders():
                if self._sinks:
                    self._step()
        except Exception as error:  # an engine that cannot go on must not leave anyone waiting
            with self._changed:
                self._closed = self._broken = True
                orders, self._orders = self._orders, deque()
            for action in orders:
                action()
            for job in [*self._scheduler.running, *self._scheduler.waiting]:
                self._fail(job, _typed(error, "the engine broke"))
            raise

    def _carry_out_orders(self) -> bool:
        """Do what was ordered, waiting for orders if there is nothing else to do.

        Returns:
            False if the thread should end: the engine is closed, or nobody wanted it for a while.
            A thread at rest would keep the whole model in memory after its last user let go of it.
        """
        with self._changed:
            if not (self._orders or self._sinks or self._closed):
                self._changed.wait(_REST_S)
            there, closed = len(self._orders), self._closed
            over = closed or not (there or self._sinks)
            if over and not closed:
                self._thread = None
        # One by one: if one breaks the engine, those behind it are still carried out.
        for _ in range(there):
            self._orders.popleft()()
        if closed:
            for job in [*self._scheduler.running, *self._scheduler.waiting]:
                self._fail(job, EngineError("the engine was closed before this request was done"))
        return not over

    def _step(self) -> None:
        work = self._scheduler.schedule()
        try:
            batch = _merge([step for _, step in work])
            logits_RV = self._runner.forward(batch, self._pool)
            rows = [row for job, step in work if step.rows for row in job.running.sampling()]
            chosen = self._runner.sample(logits_RV, rows) if rows else []
            counts = [job.running.request.top_logprobs for job, step in work for _ in step.rows]
            chosen = with_likeliest(chosen, logits_RV, counts)
        except Exception as error:
            # Whose fault it was cannot be told; those who come next find an engine in order.
            for job, _ in work:
                self._fail(job, _typed(error, "a forward failed"))
            return
        first = 0
        for job, step in work:
            job.placement.publish_read()
            here = slice(first, first + len(step.rows))
            first = here.stop
            if step.rows:
                self._advance(job, chosen[here])

    def _advance(self, job: Job, chosen: Sequence[Sampled]) -> None:
        sink = self._sinks[job.arrival]
        try:
            job.running.check_sound(chosen)
            events = job.running.accept(chosen)
            sink.events(events)
            if job.running.done:
                self._scheduler.remove(job)
                del self._sinks[job.arrival]
                sink.finished(job.running)
        except Exception as error:
            self._fail(job, _typed(error, "the request failed"))

    def _fail(self, job: Job, error: ParaThinkerError) -> None:
        sink = self._sinks.pop(job.arrival, None)
        if sink is None:
            return
        self._scheduler.remove(job, discard=True)
        # A sink may be gone, with its event loop: then nobody is there to be told.
        with suppress(Exception):
            sink.failed(error)


def _merge(steps: Sequence[StepInput]) -> ForwardBatch:
    """One forward for all requests' parts."""
    offsets = [0, *itertools.accumulate(len(step.tokens) for step in steps)]

    def flat(lists: Sequence[Sequence[int]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.fromiter(itertools.chain.from_iterable(lists), np.int64)

    return ForwardBatch(
        flat([step.tokens for step in steps]),
        flat([step.positions for step in steps]),
        flat([step.thought_ids for step in steps]),
        flat([step.slots for step in steps]),
        tuple(
            Read(read.first + offset, read.tokens, read.blocks, read.keys, read.causal)
            for step, offset in zip(steps, offsets, strict=False)
            for read in step.reads
        ),
        flat([[offset + row for row in s.rows] for s, offset in zip(steps, offsets, strict=False)]),
    )


def _typed(error: Exception, what: str) -> ParaThinkerError:
    if isinstance(error, ParaThinkerError):
        return error
    typed = EngineError(f"{what}: {type(error).__name__}: {error}")
    typed.__cause__ = error
    return typed


def _size(size: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
