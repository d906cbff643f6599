"""A dataset's figures as plots for a paper: PNG and SVG, readable in black and white."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parathinker.data.look.stats import Stats, share_histogram
from parathinker.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours; hatches tell them apart in black and white, too.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"
LENGTHS = PATH_LENGTHS, EXAMPLE_LENGTHS = "path-lengths", "example-lengths"
_DPI, _BINS, _COMPARED_BINS = 200, 40, 25


def draw(stats: Stats, folder: Path) -> list[Path]:
    """Draw all there is to draw into a folder, and list the files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: the folder cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    except ImportError as error:
        raise MissingExtraError("plots", "data") from error
    plots = {
        PATH_LENGTHS: _path_lengths,
        EXAMPLE_LENGTHS: _example_lengths,
        "right-shares": _right_shares,
        "paths-per-example": _paths_per_example,
    }
    files = []
    # Text stays text, and equal data gives equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "parathinker", "font.size": 10}):
        for name, plot in plots.items():
            figure = Figure(figsize=(5.5, 3.4), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            plot(axes, stats)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            whole_numbers = StrMethodFormatter("{x:,.0f}")
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.yaxis.set_major_formatter(whole_numbers)
            if name in LENGTHS:
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
                axes.xaxis.set_major_formatter(whole_numbers)
            if axes.get_legend_handles_labels()[0]:  # above the plot, where no bar is
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
            for suffix in ("png", "svg"):
                file = folder / f"{name}.{suffix}"
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    figure.savefig(
                        file, dpi=_DPI, metadata={"Date": None} if suffix == "svg" else {}
                    )
                except OSError as error:
                    raise UsageError(f"cannot write {file}: {error.strerror}") from error
                files.append(file)
    return files


def _path_lengths(axes: Axes, stats: Stats) -> None:
    right, wrong = stats.lengths.get("right path", []), stats.lengths.get("wrong path", [])
    if right and wrong:
        axes.hist(
            [right, wrong],
            bins=_COMPARED_BINS,
            label=[f"right ({len(right):,})", f"wrong ({len(wrong):,})"],
            color=[_BLUE, _ORANGE],
        )
        for bar in axes.containers[1]:
            bar.set_hatch("///")
            bar.set_edgecolor("white")
    else:
        axes.hist(stats.lengths["path"], bins=_BINS, color=_BLUE)
    axes.set_xlabel(f"length of a path, {stats.unit}")
    axes.set_ylabel("paths")


def _example_lengths(axes: Axes, stats: Stats) -> None:
    axes.hist(stats.lengths["example"], bins=_BINS, color=_BLUE)
    axes.set_xlabel(f"length of an example, all paths together, {stats.unit}")
    axes.set_ylabel("examples")


def _right_shares(axes: Axes, stats: Stats) -> None:
    bars = share_histogram(stats.right_shares)
    axes.bar([name for name, _ in bars], [n for _, n in bars], 0.7, color=_BLUE)
    axes.set_xlabel("share of an example's paths that are right")
    axes.set_ylabel("examples")
    axes.tick_params(axis="x", labelsize=8)


def _paths_per_example(axes: Axes, stats: Stats) -> None:
    counts = sorted(stats.paths_per_example.items())
    axes.bar([str(n) for n, _ in counts], [k for _, k in counts], 0.7, color=_GREY)
    axes.set_xlabel("paths of an example")
    axes.set_ylabel("examples")
