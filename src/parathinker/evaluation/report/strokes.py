"""What a report's figures are drawn with: a style for each method, and axes that show all there
is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parathinker.evaluation.plotting import STROKE, STYLES, Style, error_bar
from parathinker.evaluation.report.findings import Standing
from parathinker.evaluation.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#999999"
FIRST = ("parallel", "majority", "sequential")
"""What readers look for has the same style in every report."""
LEAST_HEIGHT = 10.0
"""Percentage points that an axis shows at least."""
GAP = 25.0
"""Percentage points without any point, from which on an axis is broken."""


def style_of(method: str, methods: Sequence[str]) -> Style:
    """A method's style among those in a figure."""
    if method in FIRST:
        return STYLES[FIRST.index(method)]
    rest = [name for name in methods if name not in FIRST]
    free = STYLES[len(FIRST) :]
    return free[rest.index(method) % len(free)]


def shown_name(method: str) -> str:
    """A method's label as it fits into a figure: of a model's place, only the last part."""
    return re.sub(r"model=[^,]*/", "model=", method)


def nudge(i: int, count: int) -> float:
    """A factor that sets points at the same place a little apart."""
    return float(2 ** ((i - (count - 1) / 2) * min(0.06, 0.36 / count)))


def latency_line(
    axes: Axes,
    standing: Standing,
    method: str,
    label: str | None,
    style: Style,
    i: int,
    count: int,
) -> None:
    """Medians of what was timed, from the fastest to the slowest; the i-th of so many lines."""
    colour, marker, line = style
    timed = [
        (row.width * nudge(i, count), row.latency_s, standing.latencies[method, row.width])
        for row in standing.of(method)
        if row.latency_s is not None
    ]
    if not timed:
        return
    axes.errorbar(
        [x for x, _, _ in timed],
        [median for _, median, _ in timed],
        [
            [median - min(some) for _, median, some in timed],
            [max(some) - median for _, median, some in timed],
        ],
        label=label,
        color=colour,
        marker=marker,
        linestyle=line,
        **STROKE,
    )


def log_x(axes: Axes, ticks: Sequence[int]) -> None:
    """A logarithmic axis with whole numbers at its ticks."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def log_y(axes: Axes) -> None:
    """A logarithmic axis with ticks that are read without counting zeros."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def bands_of(rows: Sequence[Row], broken: bool = True) -> list[tuple[float, float]]:
    """The range of accuracies that there are, in percent.

    Args:
        broken: where they are far apart, two ranges, the one with more points first.
    """
    ranges = sorted(
        (
            100 * row.accuracy.mean - error_bar(row.accuracy),
            100 * row.accuracy.mean + error_bar(row.accuracy),
        )
        for row in rows
    )
    split, widest, top = 0, GAP if broken else float("inf"), ranges[0][1]
    for i, (low, high) in enumerate(ranges):
        if low - top > widest:
            split, widest = i, low - top
        top = max(top, high)
    groups = [group for group in (ranges[:split], ranges[split:]) if group]
    bands = []
    for group in sorted(groups, key=len, reverse=True):
        low, high = min(low for low, _ in group), max(high for _, high in group)
        room = max(2.0, 0.06 * (high - low), (LEAST_HEIGHT - (high - low)) / 2)
        low, high = low - room, high + room
        # Nothing lies beyond the ends of the scale, so show what is on the other side instead.
        shift = min(room - 2, max(0.0, high - 102)) - min(room - 2, max(0.0, -2 - low))
        bands.append((low - shift, high - shift))
    return bands


def percent_axis(axes: Axes, band: tuple[float, float], count: int = 6) -> None:
    """A range of accuracies; it may have room beyond 0 and 100, but no ticks there."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(count, steps=[1, 2, 5, 10], integer=True).tick_values(*band)
    axes.set_yticks([tick for tick in ticks if 0 <= tick <= 100 and band[0] <= tick <= band[1]])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(band)


def mark_break(main: Axes, other: Axes) -> None:
    """Mark the place between two parts of an axis; the main part is above."""
    main.tick_params(bottom=False, labelbottom=False)
    main.spines["bottom"].set_visible(False)
    for axes, at in ((main, 0), (other, 1)):
        axes.plot(
            0,
            at,
            transform=axes.transAxes,
            marker=[(-1, -0.5), (1, 0.5)],
            markersize=9,
            linestyle="none",
            color="black",
            clip_on=False,
        )


def add_grid(axes: Axes, axis: str) -> None:
    """Lines behind the points, and no box around them."""
    axes.grid(axis=axis, alpha=0.3)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
