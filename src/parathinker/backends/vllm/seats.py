"""vLLM's seats: how many sequences it writes at a time.

A question comes in when all of its paths have a seat. With fewer, some paths would run ahead to
their ends, and hold memory until their siblings have caught up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Seats:
    """Those of one engine; first come, first served. It belongs to one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[Taken]:
        """Wait for so many, and have them."""
        await self._take(count)
        taken = Taken(self, count)
        try:
            yield taken
        finally:
            taken.keep(0)

    async def _take(self, count: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        self._call_in()
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been called in at the same moment; else those behind need not wait for it.
            self.give_back(0 if turn.cancelled() else count)
            raise

    def give_back(self, count: int) -> None:
        """So many are free again."""
        self._free += count
        self._call_in()

    def _call_in(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.cancelled():
                if count > self._free:
                    return
                self._free -= count
                turn.set_result(None)
            self._waiting.popleft()


class Taken:
    """Seats that a question has."""

    def __init__(self, seats: Seats, count: int) -> None:
        self._seats, self._count = seats, count

    def keep(self, count: int) -> None:
        """Give all others back."""
        if count < self._count:
            self._seats.give_back(self._count - count)
            self._count = count
