"""The engine's requests behind one HTTP request: they begin together and end together.

They end when all are done, when one fails, when the time is up, when the server shuts down, or when
the client leaves. After :meth:`Run.close` the engine has none of them left; their memory is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from parathinker.answer import StreamEvent
from parathinker.serving.choice import Choice, News
from parathinker.serving.errors import ApiError
from parathinker.serving.metrics import Meter

Events = AsyncGenerator[StreamEvent, None]


class Run:
    """Feeds choices with their events.

    Args:
        streams: of the engine, not begun yet, one for each choice.
        meter: counts what happens.
        timeout: the error to end with, and after how many seconds from now.
        failed: called with what the engine raised; says what the client is told of it.
        over: called once, when the engine has none of the requests left.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        streams: Sequence[Events],
        meter: Meter,
        timeout: tuple[float, ApiError],
        failed: Callable[[Exception], ApiError],
        over: Callable[[Run], None],
    ) -> None:
        self.choices, self.meter = choices, meter
        self._on_failed, self._on_over = failed, over
        self._changed = asyncio.Event()
        self._error: ApiError | None = None
        self._running = len(choices)
        seconds, error = timeout
        self._timer = asyncio.get_running_loop().call_later(seconds, self.fail, error)
        self._tasks = [
            asyncio.create_task(self._feed(choice, stream))
            for choice, stream in zip(choices, streams, strict=True)
        ]
        self._alive = len(self._tasks)
        for task in self._tasks:
            task.add_done_callback(self._task_over)

    async def news(self) -> list[tuple[Choice, list[News]]] | None:
        """Wait for something new; None once all is done and told.

        Raises:
            ApiError: the run failed; what was new before that has been told.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            news = [(choice, fresh) for choice in self.choices if (fresh := choice.news())]
            if news:
                if self._over:
                    self._changed.set()  # the end is still to be told
                return news
            if self._error is not None:
                self._changed.set()
                raise self._error
            if not self._running:
                self._changed.set()
                return None

    async def finished(self) -> None:
        """Wait for all answers.

        Raises:
            ApiError: the run failed.
        """
        while await self.news() is not None:
            pass

    def fail(self, error: ApiError) -> None:
        """End at once with an error, unless it is over already."""
        if not self._over:
            self._error = error
            self._changed.set()
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """Cancel what still runs, and wait until its memory is free."""
        self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _over(self) -> bool:
        return self._error is not None or not self._running

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._alive -= 1
        if not self._alive:
            self._timer.cancel()
            self._on_over(self)

    async def _feed(self, choice: Choice, stream: Events) -> None:
        meter = self.meter.choice()
        try:
            async for event in stream:
                choice.take(event)
                meter.event(event)
                self._changed.set()
            self._running -= 1
            self._changed.set()
        except Exception as error:
            if not self._over:
                self.fail(self._on_failed(error))
        finally:
            if choice.answer is None:
                meter.abandoned()
            await stream.aclose()
