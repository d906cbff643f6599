"""How long paths and answers may be where a request does not say.

A length that is asked for is refused where there is no room for it. One that is left open the
engine fits to context and memory: the answer gets a quarter of the room at most, a path the rest. A
server's limit is not asked for by anyone: it only takes the place of what would be longer.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from parathinker.answer import StreamEvent
from parathinker.errors import UsageError
from parathinker.params import ThinkingParams

if TYPE_CHECKING:
    from parathinker import Question

_PATH, _ANSWER = "max_path_tokens", "max_summary_tokens"
_PATH_SHARE = 3
"""Where room is short, an open path gets so many times what an open answer gets."""


@dataclass(frozen=True)
class Length:
    """Of a path, or of an answer, where a request does not say."""

    chosen: int | None
    """The server's default; None leaves it open."""
    usual: int
    """What one that is left open gets where there is room: a default, or the limit if lower."""
    limited: bool
    """Whether that is the limit."""

    @classmethod
    def of(cls, chosen: int | None, default: int, limit: int | None) -> Length:
        """From the server's default, the model's, and the server's limit."""
        if limit is None:
            return cls(chosen, default, False)
        return cls(chosen and min(chosen, limit), min(default, limit), limit < default)


class Streaming(Protocol):
    """What is needed of a model here."""

    def astream(
        self, question: Question, params: ThinkingParams | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Events of one question, once it is found to fit."""
        ...


def stream_within(
    thinker: Streaming, question: Question, params: ThinkingParams, path: Length, answer: Length
) -> AsyncGenerator[StreamEvent, None]:
    """A question's events, the limits kept for lengths that ``params`` leave open.

    Of the limits as many are set as there is room for; beside those, what is left open comes out
    shorter than its limit all by itself.

    Raises:
        UsageError: as the model, of what the request itself asks for.
    """
    limits: dict[str, Any] = {
        name: length.usual
        for name, length in ((_PATH, path), (_ANSWER, answer))
        if length.limited and getattr(params, name) is None
    }
    choices = (itertools.combinations(limits.items(), n) for n in range(len(limits), 0, -1))
    for chosen in map(dict, itertools.chain.from_iterable(choices)):
        beside = _with_room_beside(params, chosen, answer)
        try:
            thinker.astream(question, dataclasses.replace(params, **beside))
            return thinker.astream(question, dataclasses.replace(params, **chosen))
        except UsageError as error:
            if _PATH not in str(error) and _ANSWER not in str(error):
                raise
    return thinker.astream(question, params)


def _with_room_beside(
    params: ThinkingParams, chosen: dict[str, int], answer: Length
) -> dict[str, Any]:
    """Lengths that fit only if the chosen limit leaves as much room as an open length would."""
    if _ANSWER not in chosen and params.max_summary_tokens is None:
        least = -(-chosen[_PATH] // _PATH_SHARE)
        return {**chosen, _ANSWER: min(least, answer.usual)}
    if _PATH not in chosen and params.max_path_tokens is None:
        # An open answer's share does not depend on how many paths there are.
        return {**chosen, _PATH: _PATH_SHARE * chosen[_ANSWER], "paths": 1, "max_paths": None}
    return chosen
