"""Lines with error bars, told apart in black and white too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parathinker.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours.
STYLES = (
    ("#D55E00", "o", "-"),
    ("#0072B2", "s", "--"),
    ("#009E73", "^", "-."),
    ("#000000", "D", ":"),
)
_ROOM = 0.06
"""Of an axis's length, what a tick's number takes."""


def line(axes: Axes, x: Sequence[float], y: Sequence[Estimate], label: str, style: int) -> None:
    """Means in percent with their standard errors."""
    colour, marker, stroke = STYLES[style % len(STYLES)]
    axes.errorbar(
        x,
        [100 * one.mean for one in y],
        [bar(one) for one in y],
        label=label,
        color=colour,
        marker=marker,
        linestyle=stroke,
        markersize=5,
        capsize=2,
    )


def apart(x: Sequence[int], values: Sequence[int], shift: float) -> list[float]:
    """Places a hair aside, so that error bars of lines that meet can be told apart.

    Args:
        values: what a doubling axis goes from and to.
        shift: as a share of its length.
    """
    return [place * (max(values) / min(values)) ** shift for place in x]


def bar(estimate: Estimate) -> float:
    """Half the length of an error bar; none where the error is unknown."""
    return 100 * estimate.error if math.isfinite(estimate.error) else 0.0


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
