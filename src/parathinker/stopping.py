"""Stop texts: whether what was written ends with one of them, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parathinker.prompt import PromptCodec

_WINDOW = 64
"""A stop text is looked for in so many last tokens, plus one for each of its bytes."""


def stop_check(
    stops: tuple[str, ...], codec: PromptCodec
) -> Callable[[Sequence[int]], bool] | None:
    """Tells whether the last of some tokens completes one of the texts; None if there are none."""
    if not stops:
        return None
    window = _WINDOW + max(len(stop.encode("utf-8", "replace")) for stop in stops)

    def completes_stop(token_ids: Sequence[int]) -> bool:
        text = codec.decode(token_ids[-window:])
        found = [stop for stop in stops if stop in text]
        if not found:
            return False
        # One that stood there before, when it was too early to stop, does not count.
        before = codec.decode(token_ids[-window:-1])
        return any(text.count(stop) > before.count(stop) for stop in found)

    return completes_stop
