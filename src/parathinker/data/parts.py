"""When paths that are all wrong still hold the answer: each of its characters is in one of them."""

from __future__ import annotations

from collections.abc import Sequence


def hold_in_parts(answer: str, said: Sequence[str]) -> bool:
    """Whether each character of ``answer`` stands at its place in one text of ``said`` at least.

    Only then can a summary be asked to put the answer together: what stands nowhere it would have
    to guess.
    """
    return all(
        any(text[place : place + 1] == right for text in said) for place, right in enumerate(answer)
    )
