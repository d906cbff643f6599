"""Texts of an exact number of tokens, and jobs of an exact number of steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from parathinker import ThinkingParams

_SENTENCE = (
    "trains leave the station at nine and travel along the river until the evening when some "
    "people walk home through the old town and others wait for the last one to come back"
)
_PIECES = (" a", " 1", ".", ",", "a", "1", " the", "\n")
"""Appended when a few tokens are missing."""


def text_of(tokens: int, encode: Callable[[str], Sequence[int]], start: str = "") -> str:
    """A text that ``encode`` makes ``tokens`` ids of; a few less where none fits exactly."""

    def words(count: int) -> str:
        return start + " ".join(itertools.islice(itertools.cycle(_SENTENCE.split()), count))

    low, high = 0, max(1, tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if len(encode(words(middle))) <= tokens:
            low = middle
        else:
            high = middle - 1
    text = words(low)
    while (have := len(encode(text))) < tokens:
        longer = [text + piece for piece in _PIECES]
        fitting = [t for t in longer if have < len(encode(t)) <= tokens]
        if not fitting:
            break
        text = fitting[0]
    return text


def exactly(
    paths: int, path_tokens: int, summary_tokens: int, seed: int, path_prefix: str | None = None
) -> ThinkingParams:
    """A job whose paths and summary have exactly so many tokens each."""
    return ThinkingParams(
        paths=paths,
        max_path_tokens=path_tokens,
        min_path_tokens=path_tokens,
        max_summary_tokens=summary_tokens,
        min_summary_tokens=summary_tokens,
        termination="last-finish",
        temperature=1.0,
        summary_temperature=1.0,
        summary_prefix="",
        path_prefix=path_prefix,
        seed=seed,
    )
