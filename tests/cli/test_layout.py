"""The live view's layout, for any terminal and any text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from parathinker.cli.layout import BORDER, COMFORTABLE_WIDTH, STATUS_LINES, panels_per_row, plan

SMALLEST = 6
"""Lines below which nothing can be laid out: summary, its border, a line of paths, status."""


@given(
    paths=st.integers(1, 40),
    width=st.integers(20, 400),
    height=st.integers(SMALLEST, 120),
    path_lines=st.integers(0, 500),
    summary_lines=st.integers(0, 500),
)
def test_layout_fits_the_screen(
    paths: int, width: int, height: int, path_lines: int, summary_lines: int
) -> None:
    layout = plan(paths, width, height, path_lines, summary_lines, whole_summary=False)
    summary = layout.summary_lines + BORDER if summary_lines else 0
    assert bool(layout.summary_lines) == bool(summary_lines)
    assert layout.path_lines >= 1
    if layout.columns:
        rows = math.ceil(paths / layout.columns)
        used = rows * (layout.path_lines + BORDER)
    else:
        used = layout.path_lines
    assert used + summary + STATUS_LINES <= height


@given(paths=st.integers(1, 40), width=st.integers(28, 400), height=st.integers(SMALLEST, 120))
def test_panels_are_narrow_only_where_the_height_asks_for_it(
    paths: int, width: int, height: int
) -> None:
    columns = panels_per_row(paths, width, height)
    if columns and width // columns < COMFORTABLE_WIDTH:
        wider = math.ceil(paths / (width // COMFORTABLE_WIDTH)) * (BORDER + 1)
        assert wider > height - STATUS_LINES - BORDER - 1


def test_whole_summary_may_outgrow_the_screen() -> None:
    assert plan(8, 80, 24, 7, 100, whole_summary=True).summary_lines == 100
