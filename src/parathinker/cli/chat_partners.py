"""Whom a chat is with: a model in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from parathinker.answer import Answer, Done, StreamEvent
from parathinker.params import DEFAULT_AUTO_PATHS, ThinkingParams

if TYPE_CHECKING:
    from parathinker.parathinker import ParaThinker


class Partner(Protocol):
    """Answers questions, each on top of what was said before."""

    name: str
    """Of the model."""
    task: str | None
    """That the model was made for."""
    remembers: bool
    """Whether questions follow up the answers before."""

    def params(self, given: Mapping[str, Any]) -> ThinkingParams:
        """How to think: what was given, and this partner's defaults for the rest."""
        ...

    def ask(self, question: str, params: ThinkingParams, show: str) -> Iterator[StreamEvent]:
        """Think about a question; it belongs to the conversation once it is answered.

        Closing the iterator stops the thinking.

        Raises:
            ParaThinkerError: the question cannot be asked, or its answer failed.
        """
        ...

    def reset(self) -> None:
        """Forget what was said."""
        ...


class LocalPartner:
    """A model in this process; earlier turns are still in its memory."""

    remembers = True

    def __init__(self, name: str, thinker: ParaThinker) -> None:
        self.name, self.task = name, thinker.task
        self._thinker = thinker
        self._last: Answer | None = None

    def params(self, given: Mapping[str, Any]) -> ThinkingParams:
        """See :class:`Partner`."""
        paths = min(DEFAULT_AUTO_PATHS, self._thinker.max_paths)
        return ThinkingParams(**{"paths": paths, "logprobs": False, **given})

    def ask(self, question: str, params: ThinkingParams, show: str) -> Iterator[StreamEvent]:
        """See :class:`Partner`."""
        for event in self._thinker.stream(question, params, after=self._last):
            if isinstance(event, Done):
                self._last = event.answer
            yield event

    def reset(self) -> None:
        """See :class:`Partner`."""
        self._last = None
