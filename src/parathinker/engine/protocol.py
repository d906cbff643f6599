"""What an engine offers to those who ask it, whichever engine it is.

The native engine (``engine.py``) and the backends (``parathinker.backends``) stand behind it:
facade, server, command line and evaluation know no more of an engine than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from parathinker.engine.kv_pool import KVUsage
from parathinker.engine.native.runner import ProductTime
from parathinker.engine.request import EngineRequest, Event
from parathinker.engine.running import RunningRequest
from parathinker.errors import ParaThinkerError


class Sink(Protocol):
    """Who asked, and hears of it; called by the engine's thread, so it should not take long."""

    def events(self, events: Sequence[Event]) -> None:
        """What one step did to the request."""
        ...

    def finished(self, running: RunningRequest) -> None:
        """It is done, and its memory free; nothing follows."""
        ...

    def failed(self, error: ParaThinkerError) -> None:
        """It came to nothing, and its memory is free; nothing follows."""
        ...


@dataclass(frozen=True)
class EngineLoad:
    """What the engine is about."""

    running: int
    waiting: int
    preemptions: int
    """How often a request had to give its memory back and compute it again, so far."""
    kv: KVUsage
    products: dict[int, ProductTime] | None
    """Matrix products by the number of tokens in a forward; None where they are not timed."""


class ThinkingEngine(Protocol):
    """Thinks about requests in token ids; any thread may call it."""

    def check(self, request: EngineRequest) -> None:
        """Make sure that a request can be done.

        Raises:
            CapacityError: it cannot fit into the memory even if it has all of it.
            UsageError: it asks for something that this engine cannot do.
        """
        ...

    @property
    def alive(self) -> bool:
        """Whether it still takes requests: it was not closed, and did not break down."""
        ...

    def submit(self, request: EngineRequest, sink: Sink) -> Any:
        """Hand a request in; what comes back is for :meth:`cancel`.

        Raises:
            CapacityError, UsageError: as :meth:`check`.
            EngineError: the engine is closed, or broke down.
        """
        ...

    def cancel(self, job: Any) -> None:
        """Drop a request and free its memory; its sink hears no more of it.

        Nothing happens if the request is over already.
        """
        ...

    def load(self) -> EngineLoad:
        """What is running and waiting, and the KV memory in use."""
        ...

    def forget_prefixes(self) -> None:
        """Drop what is kept of earlier prompts."""
        ...

    def close(self) -> None:
        """End the engine; requests under way fail. It takes no more."""
        ...
