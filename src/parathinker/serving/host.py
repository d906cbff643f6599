"""The model behind the server, from loading to shutdown, and all that runs on it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from parathinker.serving.admission import Admission
from parathinker.serving.backend import ModelCard, Thinker, load_thinker
from parathinker.serving.choice import Choice
from parathinker.serving.errors import (
    ApiError,
    broken_down,
    from_engine,
    invalid,
    timed_out,
    unavailable,
)
from parathinker.serving.lengths import stream_within
from parathinker.serving.logprobs import LogprobWriter
from parathinker.serving.logs import Record, note_failure
from parathinker.serving.metrics import Metrics
from parathinker.serving.run import Events, Run
from parathinker.serving.settings import ServeSettings
from parathinker.serving.translation import Order

LOADING, READY, FAILED, STOPPING = "loading", "ready", "failed", "stopping"
_READERS = 2
"""Threads that turn questions into tokens: a long one does not hold up the event loop."""
log = logging.getLogger(__name__)


class Host:
    """Holds the model and everything that thinks on it."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.state = LOADING
        self.created = int(time.time())
        self.failure: Exception | None = None
        """Why the model could not be loaded."""
        self._model: tuple[Thinker, ModelCard] | None = None
        self._admission = Admission(settings.limit_running, settings.limit_queued)
        self._runs: set[Run] = set()
        self._cut: ApiError | None = None
        self._readers = ThreadPoolExecutor(_READERS, "parathinker-read")

    # -- from loading to shutdown ---------------------------------------------------------------

    def load_in_background(self, failed: Callable[[], None]) -> None:
        """Load the model while the server answers health checks already.

        Args:
            failed: called in the event loop if the model cannot be loaded.
        """
        loop = asyncio.get_running_loop()

        def load() -> None:
            started = time.perf_counter()
            try:
                thinker, card = load_thinker(self.settings)
            except Exception as error:
                self.failure, self.state = error, FAILED
                loop.call_soon_threadsafe(failed)
                return
            finally:
                gc.freeze()
                gc.enable()  # the command turned it off, for a quicker start
            seconds = round(time.perf_counter() - started, 2)
            loop.call_soon_threadsafe(self.adopt, thinker, card)
            log.info("ready", extra={"fields": {"model": card.name, "load_seconds": seconds}})

        threading.Thread(target=load, name="parathinker-load", daemon=True).start()

    def adopt(self, thinker: Thinker, card: ModelCard) -> None:
        """Serve a model that is loaded."""
        self._model = thinker, card
        if self.state == LOADING:
            self.state = READY

    @property
    def status(self) -> str:
        """How it stands: its state, or ``failed`` where its engine broke down."""
        if self.state == READY and self._model is not None and not self._model[0].alive:
            return FAILED
        return self.state

    @property
    def model(self) -> tuple[Thinker, ModelCard]:
        """The model and its card.

        Raises:
            ApiError: not yet, or not any more.
        """
        if self.state == STOPPING:
            raise unavailable("The server is shutting down")
        if self._model is None:
            raise unavailable("The model is still being loaded")
        if self.status == FAILED:
            raise broken_down()
        return self._model

    @property
    def is_loading(self) -> bool:
        """Whether a thread is still at work on the model."""
        return self._model is None and self.failure is None

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, give what runs some time, then end it."""
        self.state = STOPPING
        error = unavailable("The server is shutting down")
        self._admission.close(error)
        end = time.monotonic() + grace_s
        while self._admission.taken and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self._cut = error
        for run in list(self._runs):
            run.fail(error)
        while self._runs:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """End the engine."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        if self._model is not None:
            self._model[0].close()

    # -- requests -------------------------------------------------------------------------------

    async def begin(self, order: Order, record: Record) -> Run:
        """Have an order thought about, once it is its turn.

        Raises:
            ApiError: the queue is full, the time is up, or the engine cannot take the question.
        """
        timeout_s, loop = self.settings.request_timeout_s, asyncio.get_running_loop()
        arrived = loop.time()
        places = await self._admission.enter(len(order.answers), timeout_s)
        waited = loop.time() - arrived
        self.metrics.waited.observe(waited)
        record.thinking["queue_s"] = round(waited, 4)

        def failed(error: Exception) -> ApiError:
            told = from_engine(error, order.source)
            note_failure(error, told, record.id)
            return told

        def over(run: Run) -> None:
            self._runs.discard(run)
            self._admission.leave(places)
            record.note(run.choices, run.meter)
            if self.settings.log_text:
                record.thinking["questions"] = [one.question for one in order.answers]
                record.thinking["texts"] = [choice.content for choice in run.choices]

        try:
            thinker, card = self.model
            streams = await loop.run_in_executor(self._readers, self._prepare, thinker, card, order)
            if self._cut is not None:
                raise self._cut
            left = max(arrived + timeout_s - loop.time(), 0.0)
            meter = self.metrics.meter(record.started)
            timeout = left, timed_out(timeout_s)
            run = Run(self._choices(thinker, order), streams, meter, timeout, failed, over)
        except BaseException as error:
            self._admission.leave(places)
            if isinstance(error, Exception) and not isinstance(error, ApiError):
                raise failed(error) from error
            raise
        self._runs.add(run)
        return run

    def _prepare(self, thinker: Thinker, card: ModelCard, order: Order) -> list[Events]:
        """Read the questions and check them against the model; nothing is thought yet."""
        limit = self.settings.limit_prompt_tokens
        for one in order.answers if limit is not None else ():
            tokens = thinker.prompt_tokens(one.question)
            if limit is not None and tokens > limit:
                text = f"{order.source}: at most {limit} tokens are allowed here; got {tokens}"
                raise invalid(text, order.source, "context_length_exceeded")
        lengths = card.path_length, card.answer_length
        return [stream_within(thinker, a.question, a.params, *lengths) for a in order.answers]

    def _choices(self, thinker: Thinker, order: Order) -> list[Choice]:
        return [
            Choice(
                index,
                one.params.rounds,
                order.stop,
                order.show,
                None
                if order.top_logprobs is None
                else LogprobWriter(thinker.decode, order.top_logprobs),
            )
            for index, one in enumerate(order.answers)
        ]

    # -- looking in -----------------------------------------------------------------------------

    async def exposition(self) -> bytes:
        """The metrics, as Prometheus reads them."""
        self.metrics.ready.set(self.status == READY)
        self.metrics.running.set(self._admission.taken)
        self.metrics.queued.set(self._admission.queued)
        if self._model is not None and self.state in (READY, STOPPING):
            # The engine answers between two forwards.
            self.metrics.see(await asyncio.to_thread(self._model[0].load))
        return self.metrics.text()

    def health(self) -> dict[str, Any]:
        """How it stands."""
        return {"status": self.status, "model": self.settings.served_name}
