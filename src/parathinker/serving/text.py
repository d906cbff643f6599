"""A growing text as clients get it: without a stop text, without spaces at its ends."""

from __future__ import annotations

from collections.abc import Sequence


class AnswerText:
    """Takes an answer's text as it is written, and gives out what is sure to be part of it.

    All that :meth:`push` and :meth:`close` give out together is the whole text up to the first stop
    text, without spaces at its ends.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._begun = False
        self.stopped = False
        """Whether a stop text came."""

    def push(self, text: str) -> str:
        """Text that became certain with this piece."""
        if self.stopped:
            return ""
        self._held += text
        end = _first_stop(self._held, self._stops)
        if end is not None:
            self.stopped, self._held = True, self._held[:end]
            return self.close()
        sure = len(self._held) - _overlap(self._held, self._stops)
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


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    found = [at for at in map(text.find, stops) if at >= 0]
    return min(found, default=None)


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of the text with which a stop text may begin."""
    longest = max(map(len, stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
