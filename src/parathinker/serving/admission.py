"""Who may think now, who waits, and who is sent away: a fair queue in front of the engine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from parathinker.serving.errors import ApiError, timed_out, too_many


@dataclass
class _Waiting:
    places: int
    turn: asyncio.Future[None]


class Admission:
    """So many answers in the making at a time; requests behind them wait in order.

    Args:
        running: places; a request takes one for each answer it asks for.
        queued: requests that may wait.
    """

    def __init__(self, running: int, queued: int) -> None:
        self._places, self._most_queued = running, queued
        self._queue: deque[_Waiting] = deque()
        self._closed: ApiError | None = None
        self.taken = 0
        """Places in use."""

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    async def enter(self, answers: int, timeout_s: float) -> int:
        """Wait for one's turn.

        Returns:
            the places that were taken, to be given back by :meth:`leave`.

        Raises:
            ApiError: the queue is full, the time is up, or the server is shutting down.
        """
        if self._closed is not None:
            raise self._closed
        places = min(answers, self._places)  # one that asks for more has the engine for itself
        if not self._queue and self.taken + places <= self._places:
            self.taken += places
            return places
        if len(self._queue) >= self._most_queued:
            raise too_many(len(self._queue))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(places, loop.create_future())
        self._queue.append(waiting)
        timer = loop.call_later(timeout_s, _refuse, waiting.turn, timed_out(timeout_s))
        try:
            await waiting.turn
        except BaseException:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._admit()
            elif not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self.leave(places)  # its turn came in the moment in which its client left
            raise
        finally:
            timer.cancel()
        return places

    def leave(self, places: int) -> None:
        """Give places back."""
        self.taken -= places
        self._admit()

    def close(self, why: ApiError) -> None:
        """Send away those who wait, and all who come."""
        self._closed = why
        while self._queue:
            _refuse(self._queue.popleft().turn, why)

    def _admit(self) -> None:
        while self._queue and self.taken + self._queue[0].places <= self._places:
            first = self._queue.popleft()
            if first.turn.done():  # its client left, or its time was up
                continue
            self.taken += first.places
            first.turn.set_result(None)


def _refuse(turn: asyncio.Future[None], why: ApiError) -> None:
    if not turn.done():
        turn.set_exception(why)
