"""A growing text as clients get it: without a stop text, without spaces at its ends."""

from __future__ import annotations

from collections.abc import Sequence


class AnswerText:
    """Takes an answer's text as it is written, and gives out what is sure to be part of it.

    All that :meth:`push` and :meth:`close` give out together is the whole text up to the first stop
    text, without spaces at its ends. What was forced on the model is not searched for stop texts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._length = self._forced = 0
        self._begun = False
        self.stopped = False
        """Whether a stop text came."""

    @property
    def length(self) -> int:
        """Characters up to here, or up to the stop text, those that are not given out included."""
        return self._length

    @property
    def sure(self) -> int:
        """How many of them are certain not to belong to a stop text or to the end's spaces."""
        return self._length - len(self._held)

    def push(self, text: str, forced: bool = False) -> str:
        """Text that became certain with this piece; ``forced``: the model did not choose it."""
        if self.stopped:
            return ""
        self._held += text
        self._length += len(text)
        if forced:
            self._forced = self._length
        begin = max(0, self._forced - self.sure)
        end = _first_stop(self._held, self._stops, begin)
        if end is not None:
            self.stopped = True
            self._length -= len(self._held) - end
            self._held = self._held[:end]
            return self.close()
        sure = len(self._held) - _overlap(self._held[begin:], self._stops)
        return self._give(len(self._held[:sure].rstrip()))

    def close(self) -> str:
        """The rest: no more will come."""
        rest = self._give(len(self._held.rstrip()))
        self._held = ""
        return rest

    def _give(self, length: int) -> str:
        given, self._held = self._held[:length], self._held[length:]
        if given and not self._begun:
            given = given.lstrip()
            self._begun = True
        return given


def _first_stop(text: str, stops: Sequence[str], begin: int) -> int | None:
    found = [at for stop in stops if (at := text.find(stop, begin)) >= 0]
    return min(found, default=None)


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of the text with which a stop text may begin."""
    longest = max(map(len, stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
