"""What a path answered, as far as that can be read off any text, and whether paths agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from parathinker.scoring.extract import extract_answer, plain


def answer_in(text: str) -> str | None:
    """What a text marks as its answer, else its last number, else its last line; None if empty.

    Answers that are written alike come out the same, numbers of equal value among them.
    """
    answer = extract_answer(text)
    if answer is not None:
        return plain(answer)
    lines = [line.strip().casefold() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".!") if lines else None


def agree(texts: Sequence[str], answer_of: Callable[[str], str | None]) -> bool:
    """Whether more than half of the texts, and at least two, give the same answer."""
    counts = Counter(answer for text in texts if (answer := answer_of(text)) is not None)
    if not counts:
        return False
    votes = counts.most_common(1)[0][1]
    return votes >= 2 and 2 * votes > len(texts)
