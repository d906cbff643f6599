"""A report's figures, for screen and print: markers, line styles and hatches tell methods apart,
not colour alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parathinker.errors import MissingExtraError
from parathinker.evaluation.methods.summing import Parallel
from parathinker.evaluation.plotting import STYLES, error_bar, error_line
from parathinker.evaluation.report.findings import Standing, method_of
from parathinker.evaluation.report.strokes import (
    GREY,
    add_grid,
    bands_of,
    latency_line,
    log_x,
    log_y,
    mark_break,
    nudge,
    percent_axis,
    shown_name,
    style_of,
)
from parathinker.evaluation.statistics import Estimate
from parathinker.evaluation.tables import Row
from parathinker.params import TERMINATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 160
_COLUMNS = 4
_LARGE = 4
"""How many times as high the main part of a broken axis is as the other."""


@dataclass(frozen=True)
class Drawn:
    """A figure in its files."""

    name: str
    title: str
    description: str
    """For those who do not see it."""
    png: Path
    svg: Path


@dataclass(frozen=True)
class _Plot:
    name: str
    title: str
    description: str
    draw: Callable[[Figure, Standing], None]
    size: tuple[float, float] = (7.4, 4.0)


def draw(standing: Standing, folder: Path, prefix: str) -> list[Drawn]:
    """Draw all that there is to draw of one benchmark.

    Args:
        folder: where the files go.
        prefix: what their names begin with.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise MissingExtraError("the figures of a report", "eval") from missing
    drawn = []
    # Equal results give equal files; glyphs as outlines look alike everywhere.
    with rc_context({"svg.hashsalt": "parathinker", "font.size": 10, "axes.titlesize": 10}):
        for plot in _plots(standing):
            figure = Figure(figsize=plot.size, layout="constrained")
            FigureCanvasAgg(figure)
            plot.draw(figure, standing)
            png, svg = (folder / f"{prefix}-{plot.name}.{kind}" for kind in ("png", "svg"))
            figure.savefig(png, dpi=_DPI)
            figure.savefig(svg, metadata={"Date": None})
            drawn.append(Drawn(plot.name, plot.title, plot.description, png, svg))
    return drawn


def _plots(standing: Standing) -> Iterator[_Plot]:
    """What there is to draw."""
    on = f"on {standing.benchmark}"
    count = len(_compared(standing))
    tall = (7.4, 1.2 + 0.32 * count)
    if len(standing.widths) > 1:
        yield _Plot(
            "accuracy-budget",
            "Accuracy against token budget, ± standard error",
            f"Lines for {count} methods {on}: accuracy in percent, with standard errors, against "
            "the token budget P × B on a logarithmic scale. The first table has the numbers.",
            _accuracy_budget,
        )
        many = len(_of_several_paths(standing))
        if many:
            yield _Plot(
                "accuracy-paths",
                "Accuracy against P, ± standard error",
                f"A panel for each of {many} methods {on}: accuracy in percent, with standard "
                "errors, against P at the same budget for each path; majority vote in grey in all "
                "of them. The first table has the numbers.",
                _accuracy_paths,
                (7.4, 0.6 + 2.1 * -(-many // _COLUMNS)),
            )
    else:
        yield _Plot(
            "accuracy",
            f"Accuracy at P = {standing.widths[0]}, ± standard error",
            f"A point for each of {count} methods {on}: accuracy in percent, with its standard "
            "error. The first table has the numbers.",
            _accuracy_points,
            tall,
        )
    if any(standing.latencies.values()) and len(standing.widths) == 1:
        yield _Plot(
            "latency",
            f"Latency at P = {standing.widths[0]}: median, fastest and slowest of the answers that "
            "were timed",
            f"A point for each of {count} methods {on}: median seconds of one answer alone on the "
            "machine, from the fastest to the slowest that was timed. The second table has the "
            "numbers.",
            _latency_points,
            tall,
        )
    elif any(standing.latencies.values()):
        yield _Plot(
            "latency-paths",
            "Latency against P: median, fastest and slowest of the answers that were timed",
            f"Lines for {count} methods {on}: median seconds of one answer alone on the machine, "
            "from the fastest to the slowest that was timed, against P. The second table has the "
            "numbers.",
            _latency_paths,
        )
    if len(_terminations(standing)) > 1:
        yield _Plot(
            "terminations",
            "Native parallel thinking by when it ends: accuracy ± standard error, tokens, latency",
            f"Three panels for native parallel thinking {on}, a line for each termination: "
            "accuracy in percent, tokens generated and median latency, against P. The tables "
            "have the numbers.",
            _termination_panels,
            (7.4, 3.4),
        )


# -- figures -------------------------------------------------------------------------------------


def _accuracy_budget(figure: Figure, standing: Standing) -> None:
    methods = _compared(standing)
    bands = bands_of([row for method in methods for row in standing.of(method)])
    heights = [_LARGE if i == 0 else 1 for i in range(len(bands))]
    panels = figure.subplots(len(bands), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, band in zip(panels, bands, strict=True):
        for i, method in enumerate(methods):
            rows = standing.of(method)
            x = [row.budget * nudge(i, len(methods)) for row in rows]
            label = shown_name(method) if axes is panels[0] else None
            error_line(axes, x, _accuracies(rows), label, style_of(method, methods))
        percent_axis(axes, band, 6 if axes is panels[0] else 3)
        add_grid(axes, "y")
    if len(bands) > 1:
        mark_break(panels[0], panels[1])
    log_x(panels[-1], sorted({row.budget for row in standing.rows}))
    panels[-1].set_xlabel("token budget P × B, tokens")
    panels[0].set_ylabel("accuracy, %")
    figure.legend(loc="outside right upper", frameon=False)


def _accuracy_paths(figure: Figure, standing: Standing) -> None:
    methods = _of_several_paths(standing)
    grid = figure.subplots(-(-len(methods) // _COLUMNS), _COLUMNS, squeeze=False)
    known = [row for method in methods for row in standing.of(method)]
    # Panels look alike where they can: those that have low points show the whole range.
    upper, *lower = bands_of(known)
    whole = (min([upper[0], *(low for low, _ in lower)]), max(upper[1], *(b for _, b in lower), 0))
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, method in zip(grid.flat, methods, strict=False):
        axes.set_visible(True)
        rows = standing.of(method)
        shown = list(rows)
        if method != "majority" and "majority" in methods:
            others = standing.of("majority")
            shown += others
            axes.plot(
                [row.width for row in others],
                [100 * row.accuracy.mean for row in others],
                color=GREY,
                linestyle="--",
                marker="s",
                markersize=3,
            )
        style = style_of(method, _compared(standing))
        error_line(axes, [row.width for row in rows], _accuracies(rows), None, style)
        log_x(axes, standing.widths)
        inside = all(upper[0] <= 100 * row.accuracy.mean <= upper[1] for row in shown)
        percent_axis(axes, upper if inside else whole)
        axes.set_title(shown_name(method).replace(":", "\n", 1))
        add_grid(axes, "y")
    figure.supxlabel("paths P; dashed and grey: majority", fontsize=10)
    figure.supylabel("accuracy, %", fontsize=10)


def _accuracies(rows: Sequence[Row]) -> list[Estimate]:
    return [row.accuracy for row in rows]


def _accuracy_points(figure: Figure, standing: Standing) -> None:
    points = {}
    for row in standing.rows:
        error = error_bar(row.accuracy)
        points[row.method] = 100 * row.accuracy.mean, error, error
    axes = _points(figure, standing, points)
    axes.set_xlabel("accuracy, % ± standard error")


def _latency_points(figure: Figure, standing: Standing) -> None:
    points = {
        row.method: (row.latency_s, row.latency_s - min(some), max(some) - row.latency_s)
        for row in standing.rows
        if row.latency_s is not None
        for some in [standing.latencies[row.method, row.width]]
    }
    axes = _points(figure, standing, points)
    axes.set_xlim(left=0)
    axes.set_xlabel("latency of one answer, s")


def _points(
    figure: Figure, standing: Standing, points: Mapping[str, tuple[float, float, float]]
) -> Axes:
    """A line for each method, with its value and how far below and above it may be."""
    axes = figure.subplots()
    methods = _compared(standing)
    for i, method in enumerate(methods):
        if method in points:
            value, below, above = points[method]
            colour, marker, _ = style_of(method, methods)
            error = [[below], [above]]
            axes.errorbar(value, i, xerr=error, color=colour, marker=marker, capsize=3)
    axes.set_yticks(range(len(methods)), [shown_name(method) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    add_grid(axes, "x")
    return axes


def _latency_paths(figure: Figure, standing: Standing) -> None:
    axes = figure.subplots()
    methods = _compared(standing)
    for i, method in enumerate(methods):
        style = style_of(method, methods)
        latency_line(axes, standing, method, shown_name(method), style, i, len(methods))
    log_x(axes, standing.widths)
    log_y(axes)
    axes.set_xlabel("paths P; budget P × B for all methods")
    axes.set_ylabel("latency of one answer, s")
    add_grid(axes, "both")
    figure.legend(loc="outside right upper", frameon=False)


def _termination_panels(figure: Figure, standing: Standing) -> None:
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.12})
    methods = _terminations(standing)
    for i, (termination, method) in enumerate(methods.items()):
        colour, marker, line = STYLES[i]
        rows = standing.of(method)
        dodge = nudge(i, len(methods))
        x = [row.width * dodge for row in rows]
        error_line(panels[0], x, _accuracies(rows), termination, (colour, marker, line))
        panels[1].plot(
            x,
            [row.path_tokens + row.summary_tokens for row in rows],
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=5,
        )
        style = (colour, marker, line)
        latency_line(panels[2], standing, method, None, style, i, len(methods))
    for axes, label in zip(
        panels,
        ("accuracy, %", "tokens generated per question", "latency of one answer, s"),
        strict=True,
    ):
        log_x(axes, standing.widths)
        axes.set_xlabel("paths P")
        axes.set_ylabel(label)
        add_grid(axes, "y")
    (band,) = bands_of([row for label in methods.values() for row in standing.of(label)], False)
    percent_axis(panels[0], band)
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    panels[1].yaxis.set_major_formatter("{x:,.0f}")
    if not any(
        standing.latencies.get((label, row.width))
        for label in methods.values()
        for row in standing.rows
    ):
        panels[2].text(0.5, 0.5, "not timed", ha="center", transform=panels[2].transAxes)
    figure.legend(loc="outside upper left", ncols=len(methods), frameon=False)


# -- what is drawn -------------------------------------------------------------------------------


def _compared(standing: Standing) -> list[str]:
    """Methods in figures that compare methods; terminations have one of their own."""
    others = {label for name, label in _terminations(standing).items() if label != "parallel"}
    if "parallel" not in standing.methods:
        others = set()
    return [method for method in standing.methods if method not in others]


def _of_several_paths(standing: Standing) -> list[str]:
    return [name for name in _compared(standing) if not name.startswith("sequential")]


def _terminations(standing: Standing) -> Mapping[str, str]:
    """Labels of native parallel thinking by termination, with nothing else changed."""
    found = {}
    for label in standing.methods:
        method = method_of(label)
        if type(method) is Parallel and not method.model:
            found[method.termination] = label
    return {name: found[name] for name in TERMINATIONS if name in found}
