"""Lines with error bars, told apart in black and white too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from parathinker.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = tuple[str, str, Any]
"""Colour, marker and line."""
STYLES: Sequence[Style] = (
    # Okabe and Ito's colours, a marker, and a line style: each combination once.
    ("#D55E00", "o", "-"),
    ("#0072B2", "s", "--"),
    ("#000000", "^", ":"),
    ("#009E73", "D", "-."),
    ("#CC79A7", "v", (0, (5, 1))),
    ("#E69F00", "P", (0, (3, 1, 1, 1))),
    ("#56B4E9", "X", (0, (1, 1))),
    ("#666666", "*", (0, (8, 3))),
    ("#8C564B", "<", (0, (3, 1, 1, 1, 1, 1))),
    ("#7A6FAC", ">", (0, (2, 3))),
    ("#556B2F", "p", (0, (6, 2, 2, 2))),
    ("#A52A2A", "h", "-"),
)
STROKE: dict[str, Any] = {"markersize": 5, "linewidth": 1.3, "elinewidth": 0.9, "capsize": 2}
"""How thick lines with error bars are."""


def error_line(
    axes: Axes, x: Sequence[float], y: Sequence[Estimate], label: str | None, style: Style
) -> None:
    """Means in percent with their standard errors."""
    colour, marker, line = style
    axes.errorbar(
        x,
        [100 * one.mean for one in y],
        [error_bar(one) for one in y],
        label=label,
        color=colour,
        marker=marker,
        linestyle=line,
        **STROKE,
    )


def error_bar(estimate: Estimate) -> float:
    """Half the length of an error bar, in percent; none where the error is unknown."""
    return 100 * estimate.error if math.isfinite(estimate.error) else 0.0
