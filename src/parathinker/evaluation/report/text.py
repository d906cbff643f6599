"""Numbers as a report writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from parathinker.evaluation.tables import Row, percent

_MARKUP = re.compile(r"([\\`*_\[\]|~#$])")


def count(value: float) -> str:
    """A number of tokens."""
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Three digits that count; a dash where nothing was timed."""
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def points(value: float) -> str:
    """A difference of accuracies in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−")


def plus_minus(value: float) -> str:
    """A standard error in percentage points; a dash where there is none."""
    return f"± {100 * value:.1f}" if math.isfinite(value) else "–"


def p_value(value: float | None) -> str:
    """Two digits that count; a dash where the test does not apply."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def kept(row: Row) -> str:
    """Whether no answer took more than its budget."""
    sign = "✓" if row.most_tokens <= row.budget else "✗ exceeded:"
    return f"{sign} {row.most_tokens:,} of {row.budget:,}"


def unscored(notes: Mapping[str, int]) -> str:
    """How many texts could not be scored, and why."""
    return ", ".join(f"{number:,} {note}" for note, number in notes.items()) or "none"


def setting(value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return "default"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {one}" for name, one in value.items()) or "none"
    return str(value)


def markdown(value: Any) -> str:
    """Any text as one line of Markdown that means nothing but itself."""
    line = " ".join(str(value).split())
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(sign, entity)
    return _MARKUP.sub(r"\\\1", line)


FILTERS: Mapping[str, Callable[..., str]] = {
    "percent": percent,
    "count": count,
    "seconds": seconds,
    "points": points,
    "plus_minus": plus_minus,
    "p_value": p_value,
    "kept": kept,
    "unscored": unscored,
    "setting": setting,
    "markdown": markdown,
}
