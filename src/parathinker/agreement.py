"""What a path answered, as far as that can be read off any text, and whether paths agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

_BRACE = re.compile(r"(\\boxed)?\{|\}")
# A sign belongs to a number unless it stands between two operands, as in 12-7.
_NUMBER = re.compile(r"(?:(?<![\w)])[-+])?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def answer_in(text: str) -> str | None:
    """The last ``\\boxed{…}``, else the last number, else the last line; None if there is none.

    Numbers of equal value come out the same, however they are written.
    """
    boxed = _last_boxed(text)
    if boxed is not None:
        return _plain_number(boxed)
    numbers = _NUMBER.findall(text)
    if numbers:
        return _plain_number(numbers[-1])
    lines = [line.strip().casefold() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".!") if lines else None


def agree(texts: Sequence[str], answer_of: Callable[[str], str | None]) -> bool:
    """Whether more than half of the texts, and at least two, give the same answer."""
    counts = Counter(answer for text in texts if (answer := answer_of(text)) is not None)
    if not counts:
        return False
    votes = counts.most_common(1)[0][1]
    return votes >= 2 and 2 * votes > len(texts)


def _last_boxed(text: str) -> str | None:
    """What the last complete ``\\boxed{…}`` holds, braces within braces included."""
    found, open_braces = None, list[int | None]()
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            open_braces.append(brace.end() if brace[1] else None)
        elif open_braces and (begin := open_braces.pop()) is not None:
            found = text[begin : brace.start()]
    return found


def _plain_number(text: str) -> str:
    """A number without thousands separators, plus sign and idle decimals; other text unspaced."""
    text = "".join(text.split())
    if not _NUMBER.fullmatch(text):
        return text
    try:
        return str(Fraction(text.replace(",", "")))
    except (ValueError, ZeroDivisionError):  # thousands of digits, or a division by zero
        return text
