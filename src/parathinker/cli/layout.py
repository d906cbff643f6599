"""How paths and summary share a terminal: a grid of panels that never outgrows the screen."""

from __future__ import annotations

import math
from dataclasses import dataclass

BORDER = 2
"""Lines of a panel that are its border."""
COMFORTABLE_WIDTH, LEAST_WIDTH = 28, 14
"""Columns of a panel, border included."""
STATUS_LINES = 1


@dataclass(frozen=True)
class Layout:
    """Sizes in lines and columns of text."""

    columns: int
    """Panels side by side; 0: no room for panels, a line for each path."""
    path_lines: int
    """Lines of text in a path's panel; without panels, lines of all paths together."""
    summary_lines: int
    """Lines of text in the summary's panel; 0 while there is none."""


def panels_per_row(paths: int, width: int, height: int) -> int:
    """Panels side by side so that all paths fit above a summary; 0 if they do not.

    As wide as is comfortable, narrower where the height asks for it.
    """
    rows_that_fit = (height - STATUS_LINES - BORDER - 1) // (BORDER + 1)
    most = min(paths, width // LEAST_WIDTH)
    for columns in range(max(1, min(paths, width // COMFORTABLE_WIDTH)), most + 1):
        rows = math.ceil(paths / columns)
        if rows <= rows_that_fit:
            return math.ceil(paths / rows)
    return 0


def plan(
    paths: int, width: int, height: int, path_lines: int, summary_lines: int, whole_summary: bool
) -> Layout:
    """Share ``height`` lines; the summary comes first, paths show at least their last line.

    Args:
        paths: how many.
        width: columns of the screen.
        height: lines of the screen that may be used.
        path_lines: lines that the longest path would fill.
        summary_lines: lines that the summary would fill; 0 while there is none.
        whole_summary: show all of the summary even if that outgrows the screen.
    """
    columns = panels_per_row(paths, width, height)
    rows = math.ceil(paths / columns) if columns else 0
    least = rows * (BORDER + 1) if columns else 1
    room = height - STATUS_LINES - least
    shown = 0
    if summary_lines:
        shown = summary_lines if whole_summary else max(1, min(summary_lines, room - BORDER))
        room -= shown + BORDER
    if not columns:
        return Layout(0, max(1, min(paths, room + 1)), shown)
    return Layout(columns, max(1, min(path_lines, 1 + max(0, room) // rows)), shown)
