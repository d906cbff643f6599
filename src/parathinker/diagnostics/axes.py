"""The axes of the diagnoses' plots, and places on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOM = 0.06
"""Of an axis's length, what a tick's number takes."""


def apart(x: Sequence[int], values: Sequence[int], shift: float) -> list[float]:
    """Places a hair aside, so that error bars of lines that meet can be told apart.

    Args:
        values: what a doubling axis goes from and to.
        shift: as a share of its length.
    """
    return [place * (max(values) / min(values)) ** shift for place in x]


def percent_axis(axes: Axes, label: str) -> None:
    """A y-axis from 0 to 100 %, with room for a marker at either end."""
    axes.set_ylim(-3, 103)
    axes.set_ylabel(label)


def doubling_axis(axes: Axes, values: Sequence[int], label: str) -> None:
    """A logarithmic x-axis with a tick at each value that has room for its number."""
    shown: list[int] = []
    for value in sorted(values, reverse=True):
        if not shown or math.log2(shown[-1] / value) > _ROOM * math.log2(max(values) / min(values)):
            shown.append(value)
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{value:,}" for value in shown])
    axes.minorticks_off()
    axes.set_xlabel(label)
