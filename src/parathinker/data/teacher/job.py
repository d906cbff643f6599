"""A sampling job: what is missing in a store is asked for, what arrives is committed at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from parathinker.data.samples import Failure, Sample, SampleStore, SamplingSettings
from parathinker.data.schema import read_questions
from parathinker.data.teacher.asking import Ask, Teacher, TeacherError, seed_of
from parathinker.data.teacher.chat import MOST_CONNECTIONS, Endpoint
from parathinker.data.teacher.endpoints import EndpointTeacher, Patience
from parathinker.data.teacher.shards import Shard
from parathinker.errors import UsageError

MAX_COST = "max-cost"
"""Why a job stopped that reached its limit; else the name of a signal."""
TICK_S = 5.0
"""How often whoever looks on hears of a job in which nothing arrives."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in whatever currency, and what may be spent."""

    per_million_in: float = 0.0
    per_million_out: float = 0.0
    most: float | None = None
    """For all samples of the store together, whenever they were made."""

    def __post_init__(self) -> None:
        if self.most is not None and not (self.per_million_in or self.per_million_out):
            raise UsageError("a limit on the cost needs prices: say --price-in and --price-out")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Of so many tokens."""
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / 1e6


@dataclass(frozen=True)
class SamplingJob:
    """All that a job needs; plain data, without keys, that can be sent to another machine."""

    questions: Path
    output: Path
    settings: SamplingSettings
    endpoints: tuple[Endpoint, ...] = ()
    engine: str | None = None
    """A model's folder or name, instead of endpoints."""
    engine_options: dict[str, Any] = field(default_factory=dict)
    """As ``ParaThinker.from_pretrained`` takes them."""
    concurrency: int = 16
    patience: Patience = field(default_factory=Patience)
    prices: Prices = field(default_factory=Prices)
    retry_failed: bool = False
    """Ask again for what was given up in earlier runs."""

    def __post_init__(self) -> None:
        if bool(self.endpoints) == (self.engine is not None):
            raise UsageError("ask either endpoints or an engine: give --endpoint, or --engine")
        addresses = [(endpoint.url, endpoint.model) for endpoint in self.endpoints]
        if len(set(addresses)) < len(addresses):
            raise UsageError("an endpoint is given twice; raise --concurrency to ask it more")
        if not 1 <= self.concurrency <= MOST_CONNECTIONS:
            raise UsageError(
                f"concurrency should be from 1 to {MOST_CONNECTIONS}; got {self.concurrency}"
            )


@dataclass
class Tally:
    """How a job stands."""

    questions: int
    wanted: int
    """Samples that the store should hold in the end."""
    before: int
    """Samples that it held when this run began."""
    prices: Prices
    tokens_in: int
    tokens_out: int
    """Of all samples in the store."""
    arrived: int = 0
    """Samples of this run."""
    arrived_in: int = 0
    arrived_out: int = 0
    """Tokens of this run."""
    asked: int = 0
    """Samples that a teacher was asked for in this run, and has not given or failed yet."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many samples were given up, in this run or before, by what was said about them."""
    stopped: str | None = None
    """Why it ended early, if it did."""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @classmethod
    def of(cls, store: SampleStore, paths: int, prices: Prices) -> Tally:
        """How a store stands before anything is asked."""
        questions, before = store.count("questions"), store.count("samples", paths)
        tally = cls(questions, questions * paths, before, prices, *store.tokens())
        tally.failures.update(one.message for one in store.failures() if one.index < paths)
        return tally

    @property
    def failed(self) -> int:
        """Samples that were given up, in this run or before."""
        return self.failures.total()

    @property
    def left(self) -> int:
        """Samples still to come."""
        return self.wanted - self.before - self.arrived - self.failed

    @property
    def cost(self) -> float:
        """Of all samples in the store."""
        return self.prices.cost(self.tokens_in, self.tokens_out)

    @property
    def expected_cost(self) -> float:
        """Of the whole job, if what is left costs what samples cost so far."""
        there = self.before + self.arrived
        return self.cost * (1 + self.left / there) if there else 0.0

    def can_afford_another(self) -> bool:
        """Whether one more may be asked for, if what is under way costs what samples cost so far.

        Before the first has arrived nobody knows what one costs.
        """
        if self.prices.most is None:
            return True
        there = self.before + self.arrived
        expected = self.asked * self.cost / there if there else 0.0
        return self.cost + expected < self.prices.most

    def tick(self) -> None:
        """Take the time."""
        self.seconds = time.monotonic() - self.began

    def take(self, outcome: Sample | Failure) -> None:
        """Count what arrived."""
        self.asked -= 1
        self.tick()
        if isinstance(outcome, Failure):
            self.failures[outcome.message] += 1
            return
        self.arrived += 1
        self.arrived_in += outcome.prompt_tokens
        self.arrived_out += outcome.completion_tokens
        self.tokens_in += outcome.prompt_tokens
        self.tokens_out += outcome.completion_tokens

    def summary(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        seconds = max(self.seconds, 1e-9)
        return {
            "questions": self.questions,
            "wanted": self.wanted,
            "samples": self.before + self.arrived,
            "before": self.before,
            "arrived": self.arrived,
            "failed": self.failed,
            "failures": dict(self.failures.most_common()),
            "left": self.left,
            "prompt_tokens": self.tokens_in,
            "completion_tokens": self.tokens_out,
            "cost": round(self.cost, 6),
            "seconds": round(self.seconds, 3),
            "samples_per_second": round(self.arrived / seconds, 3),
            "tokens_per_second": round(self.arrived_out / seconds, 1),
            "stopped": self.stopped,
        }


class Watch(Protocol):
    """Who looks on."""

    def update(self, tally: Tally) -> None:
        """The job stands so; called at the start, whenever something arrived, and now and then."""

    def note(self, text: str) -> None:
        """A line for the user, such as an endpoint that fails."""


def run_job(job: SamplingJob, watch: Watch) -> Tally:
    """Ask for what is missing in the job's store, until nothing is, or until it is stopped.

    SIGINT and SIGTERM let nothing new start and keep what arrives within a moment; a second one
    ends it at once. ``Tally.stopped`` then has the signal's name.

    Raises:
        UsageError: the job does not fit the store, the questions or the machine.
        TeacherError: no teacher can go on.
    """
    for endpoint in job.endpoints:
        endpoint.key()
    questions = list(read_questions(job.questions))
    if not questions:
        raise UsageError(f"{job.questions} holds no questions")
    shard = Shard.parse(job.settings.shard or "1/1")
    places = [place for place, question in enumerate(questions) if shard.takes(question.id)]
    taken = [questions[place] for place in places]
    with SampleStore.begin(job.output, job.settings, taken, places=places) as store:
        if job.retry_failed:
            store.forget_failures()
        tally = Tally.of(store, job.settings.paths, job.prices)
        watch.update(tally)
        if tally.left:
            asyncio.run(_sample(job, store, tally, watch))
        return tally


async def _sample(job: SamplingJob, store: SampleStore, tally: Tally, watch: Watch) -> None:
    teacher = _teacher(job, watch.note)
    tally.began = time.monotonic()
    stop = asyncio.Event()
    ticking = asyncio.ensure_future(_tick(tally, watch))
    with _signals(stop, tally), contextlib.suppress(_StoppedAtOnce):
        stream = teacher.outcomes(_asks(job.settings, store, tally), stop)
        async with contextlib.aclosing(stream):
            try:
                async for outcome in stream:
                    if isinstance(outcome, Sample):
                        store.add(outcome)
                    else:
                        store.add_failures(outcome)
                    tally.take(outcome)
                    watch.update(tally)
                    _check_cost_is_known(job, outcome)
            except asyncio.CancelledError:
                raise _StoppedAtOnce from None
            finally:
                ticking.cancel()
    tally.tick()


async def _tick(tally: Tally, watch: Watch) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        tally.tick()
        watch.update(tally)


def _check_cost_is_known(job: SamplingJob, outcome: Sample | Failure) -> None:
    """No money is spent behind the back of a limit."""
    if job.prices.most is None or isinstance(outcome, Failure):
        return
    if outcome.prompt_tokens == outcome.completion_tokens == 0:
        raise TeacherError(
            f"{outcome.endpoint} does not say how many tokens an answer took, so a limit on the "
            "cost cannot be kept; leave --max-cost out to go on without one"
        )


def _asks(settings: SamplingSettings, store: SampleStore, tally: Tally) -> Iterator[Ask]:
    """What is missing, as long as it can be paid for."""
    for question, index in store.missing(settings.paths):
        if not tally.can_afford_another():
            tally.stopped = MAX_COST
            return
        tally.asked += 1
        yield Ask(question, index, seed_of(settings.seed, question.id, index))


def _teacher(job: SamplingJob, note: Callable[[str], None]) -> Teacher:
    if job.engine is None:
        return EndpointTeacher(job.endpoints, job.settings, job.concurrency, job.patience, note)
    from parathinker.data.teacher.engine import EngineTeacher
    from parathinker.parathinker import ParaThinker

    model = ParaThinker.from_pretrained(job.engine, **job.engine_options)
    return EngineTeacher(model, job.engine, job.settings, job.concurrency)


class _StoppedAtOnce(Exception):
    """A second signal came."""


@contextlib.contextmanager
def _signals(stop: asyncio.Event, tally: Tally) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM set ``stop``; the second one cancels the task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def received(number: signal.Signals) -> None:
        if stop.is_set():
            task.cancel()
        tally.stopped = number.name
        stop.set()

    with contextlib.ExitStack() as handlers:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Signals arrive in the main thread alone; elsewhere there is nothing to handle.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, received, number)
                handlers.callback(loop.remove_signal_handler, number)
        yield


def exit_code(tally: Tally) -> int:
    """0: done, or at the limit of its cost; 1: nothing but failures; 128 + the signal's number."""
    if tally.stopped not in (None, MAX_COST):
        return 128 + signal.Signals[str(tally.stopped)]
    return int(tally.failed > 0 and tally.before + tally.arrived == 0)


def shard_file(output: Path, shard: Shard) -> Path:
    """Where a shard's samples go when several are made beside each other."""
    stem, suffix = os.path.splitext(output.name)
    return output.with_name(f"{stem}.{shard.number}-of-{shard.of}{suffix}")
