"""A teacher behind one or several endpoints: work goes to whoever is free.

An endpoint that fails is left alone for a while, longer each time, while the others go on; what it
failed at is asked again, at the end. When none has answered for long, all stops.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass

from parathinker.data.samples import Failure, Sample, SamplingSettings
from parathinker.data.teacher.asking import GRACE_S, Ask, Refusals, TeacherError
from parathinker.data.teacher.chat import ChatClient, Declined, Endpoint, Refused, Trouble

TRIES = 3
"""How often an ask is given out before it is given up; each time it is tried and retried."""
LONGEST_REST_S = 60.0


@dataclass(frozen=True)
class Patience:
    """How long to wait for whom."""

    timeout_s: float = 1800.0
    """For an answer; a long path takes many minutes."""
    retries: int = 2
    """How often the client repeats a request that failed; see :mod:`.chat`."""
    rest_s: float = 1.0
    """How long an endpoint is left alone after that; doubled each time, up to a minute."""
    first_answer_s: float = 20.0
    """How long an endpoint may fail that has never answered."""
    give_up_s: float = 600.0
    """How long one may fail that has."""
    grace_s: float = GRACE_S
    """How long to wait for what is under way when all is stopped."""


class _Line:
    """An endpoint and how it fares."""

    def __init__(self, client: ChatClient, concurrency: int, patience: Patience) -> None:
        self.client, self.concurrency, self._patience = client, concurrency, patience
        self.running = 0
        self.trouble = ""
        self._asked_to_wait_until = 0.0
        self._rest_from, self._rest_until, self._rests = 0.0, 0.0, 0
        self._failing_since: float | None = None

    @property
    def rests_until(self) -> float:
        return max(self._rest_until, self._asked_to_wait_until)

    def is_free(self, now: float) -> bool:
        return self.running < self.concurrency and now >= self.rests_until

    def answered(self) -> None:
        # What it asked for itself holds all the same: a rate limit lets some requests through.
        self._failing_since, self._rests, self._rest_until = None, 0, 0.0

    def failed(self, trouble: Trouble, began: float, now: float) -> bool:
        """Begin a rest; False where it is only one more of the requests that failed together."""
        self._asked_to_wait_until = max(self._asked_to_wait_until, now + trouble.wait_s)
        self.trouble = str(trouble)
        if self._failing_since is None:
            self._failing_since = now
        elif began < self._rest_from:
            return False
        self._rest_from = now
        self._rest_until = now + min(self._patience.rest_s * 2**self._rests, LONGEST_REST_S)
        self._rests = min(self._rests + 1, 16)
        return True

    def is_given_up(self, now: float) -> bool:
        if self._failing_since is None:
            return False
        known = self.client.answered_at is not None
        patience_s = self._patience.give_up_s
        if not known:
            patience_s = min(patience_s, self._patience.first_answer_s)
        return max(now, self.rests_until) - self._failing_since > patience_s


@dataclass(frozen=True)
class _Flight:
    """A request under way."""

    ask: Ask
    line: _Line
    began: float


class EndpointTeacher:
    """Asks endpoints, ``concurrency`` requests at a time at each.

    Args:
        note: told when an endpoint begins to rest, in a line for the user.

    Raises:
        MissingExtraError: the client library is not installed.
        UsageError: an endpoint's key is not there.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: SamplingSettings,
        concurrency: int = 16,
        patience: Patience | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        patience = patience or Patience()
        self._grace_s = patience.grace_s
        self._lines = [
            _Line(
                ChatClient(endpoint, settings, patience.timeout_s, patience.retries),
                concurrency,
                patience,
            )
            for endpoint in endpoints
        ]
        self._note = note
        self._tries: Counter[tuple[str, int]] = Counter()
        self._new: deque[Ask] = deque()
        self._again: deque[Ask] = deque()
        self._refusals = Refusals()
        self._error: TeacherError | None = None

    async def outcomes(
        self, asks: Iterator[Ask], stop: asyncio.Event
    ) -> AsyncGenerator[Sample | Failure, None]:
        """See :class:`~.asking.Teacher`."""
        flights: dict[asyncio.Task[Sample], _Flight] = {}
        stopping = asyncio.ensure_future(stop.wait())
        deadline: float | None = None
        try:
            while True:
                now = time.monotonic()
                if self._error is None and not stop.is_set():
                    for settled in self._start(asks, flights, now):
                        yield settled
                    if not flights and not self._has_work(asks):
                        break
                    if not flights and all(line.is_given_up(now) for line in self._lines):
                        self._error = TeacherError(self._nobody_answers())
                if self._error or stop.is_set():
                    deadline = deadline or now + self._grace_s
                    if not flights or now >= deadline:
                        break
                await asyncio.wait(
                    [*flights, *([] if stopping.done() else [stopping])],
                    timeout=self._until(now, deadline),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for landed in [task for task in flights if task.done()]:
                    for outcome in self._land(landed, flights.pop(landed)):
                        yield outcome
            if self._error:
                raise self._error
            if not stop.is_set():
                for failure in self._refusals.release():
                    yield failure
        finally:
            for task in (*flights, stopping):
                task.cancel()
            await asyncio.gather(*flights, stopping, return_exceptions=True)
            for line in self._lines:
                await line.client.close()

    def _start(
        self, asks: Iterator[Ask], flights: dict[asyncio.Task[Sample], _Flight], now: float
    ) -> Iterator[Failure]:
        """Give out what is wanted while somebody is free; yield what needs no asking."""
        while free := [line for line in self._lines if line.is_free(now)]:
            if not self._has_work(asks):
                return
            # New ones first: those that failed wait until whatever ailed the endpoint is over.
            ask = (self._new or self._again).popleft()
            refusal = self._refusals.of_question.get(ask.question.id)
            if refusal is not None:
                yield from self._refusals.add(ask, refusal)
                continue
            line = min(free, key=lambda line: line.running / line.concurrency)
            line.running += 1
            task = asyncio.ensure_future(line.client.sample(ask))
            flights[task] = _Flight(ask, line, now)

    def _has_work(self, asks: Iterator[Ask]) -> bool:
        if not self._new:
            self._new.extend(itertools.islice(asks, 1))
        return bool(self._new or self._again)

    def _land(self, task: asyncio.Task[Sample], flight: _Flight) -> Iterator[Sample | Failure]:
        """What became of a request."""
        ask, line = flight.ask, flight.line
        line.running -= 1
        now = time.monotonic()
        try:
            sample = task.result()
        except Declined as decline:
            line.answered()
            yield Failure(ask.question.id, ask.index, str(decline))
        except Refused as refusal:
            line.answered()
            yield from self._refusals.add(ask, str(refusal))
            if self._refusals.are_too_many:
                self._error = self._error or TeacherError(
                    f"{line.client.endpoint.url} refused every question so far, so it will be the "
                    f"request and not the questions: {refusal}"
                )
        except Trouble as trouble:
            if line.failed(trouble, flight.began, now):
                self._note(
                    f"{line.client.endpoint.url}: {trouble}; asked again in "
                    f"{line.rests_until - now:.0f} s"
                )
            well = (line.client.answered_at or 0.0) > flight.began
            key = (ask.question.id, ask.index)
            self._tries[key] += TRIES if trouble.slow and well else trouble.counts
            if self._tries[key] >= TRIES:
                yield Failure(ask.question.id, ask.index, str(trouble))
            else:
                self._again.append(ask)
        except TeacherError as error:
            self._error = self._error or error
        else:
            line.answered()
            yield sample
            yield from self._refusals.answered()

    def _until(self, now: float, deadline: float | None) -> float | None:
        """Seconds until something is to be done without anything having happened."""
        if deadline is not None:
            return max(0.0, deadline - now)
        rests = [line.rests_until - now for line in self._lines if line.rests_until > now]
        return min(rests, default=None)

    def _nobody_answers(self) -> str:
        each = "\n".join(f"  {line.client.endpoint.url}: {line.trouble}" for line in self._lines)
        return f"no endpoint answers any more; the same command goes on later:\n{each}"
