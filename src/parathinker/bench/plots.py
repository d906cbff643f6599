"""The report's plots. Matplotlib is optional, and imported when something is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parathinker.bench.figures import Cell, Estimate, Section, Spread
from parathinker.bench.job import PARTS
from parathinker.params import AUTO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours; markers and hatches tell them apart in black and white, too.
_ORANGE, _BLUE, _GREEN, _BLACK = "#D55E00", "#0072B2", "#009E73", "#000000"
_DPI = 200


def draw(sections: Sequence[Section], folder: Path) -> dict[str, str] | None:
    """Draw what there is to draw.

    Returns:
        File names in ``folder`` by section; None where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    files: dict[str, str] = {}
    for section in sections:
        plot = _PLOTS.get(section.name)
        if plot is None or not section.rows:
            continue
        figure = Figure(figsize=(6.5, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        plot(axes, section.rows)
        axes.set_title(section.title, loc="left", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
        files[section.name] = f"{section.name}.png"
        figure.savefig(folder / files[section.name], dpi=_DPI)
    return files


def _steps(axes: Axes, rows: Sequence[Mapping[str, Cell]]) -> None:
    x = [_number(row["paths"]) for row in rows]
    _line(axes, x, rows, "step_ms", "decode step", _ORANGE, "o")
    _line(axes, x, rows, "roofline_ms", "roofline", _BLACK, "_", linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [str(paths) for paths in x])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("paths")
    axes.set_ylabel("ms")


def _job(axes: Axes, rows: Sequence[Mapping[str, Cell]]) -> None:
    names = [str(row["paths"]) for row in rows]
    bottom = [0.0] * len(rows)
    styles = zip(PARTS, (_GREEN, _ORANGE, _BLUE), ("//", "", ".."), strict=True)
    for part, colour, hatch in styles:
        heights = [_middle(row[part]) for row in rows]
        label = part.removesuffix("_s")
        axes.bar(
            names, heights, 0.6, bottom, label=label, color=colour, hatch=hatch, edgecolor="white"
        )
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    axes.set_xlabel("paths")
    axes.set_ylabel("s")


def _summary(axes: Axes, rows: Sequence[Mapping[str, Cell]]) -> None:
    x = [_number(row["path_tokens"]) for row in rows]
    _line(axes, x, rows, "step_ms", "a decode step", _BLACK, "_", linestyle="--")
    _line(axes, x, rows, "summary_ttft_ms", "the summary's first token", _ORANGE, "o")
    _line(axes, x, rows, "refill_ms", "prefilling all paths as one text", _BLUE, "D")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{length:,}" for length in x])
    axes.set_xlabel("tokens of each path")
    axes.set_ylabel("ms")


def _adaptive(axes: Axes, rows: Sequence[Mapping[str, Cell]]) -> None:
    for row in rows:
        accuracy, tokens = row["accuracy_percent"], row["tokens"]
        assert isinstance(accuracy, Estimate)
        assert isinstance(tokens, Estimate)
        auto = row["paths"] == AUTO
        axes.errorbar(
            tokens.mean,
            accuracy.mean,
            accuracy.error,
            fmt="s" if auto else "o",
            color=_ORANGE if auto else _BLUE,
            capsize=2,
        )
        axes.annotate(
            f"{row['paths']} paths" if not auto else "auto",
            (tokens.mean, accuracy.mean),
            (6, 6),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("tokens a question, paths and summary")
    axes.set_ylabel("right, %")


_PLOTS: dict[str, Callable[[Any, Sequence[Mapping[str, Cell]]], None]] = {
    "steps": _steps,
    "job": _job,
    "summary": _summary,
    "adaptive": _adaptive,
}


def _line(
    axes: Axes,
    x: Sequence[int],
    rows: Sequence[Mapping[str, Cell]],
    key: str,
    label: str,
    colour: str,
    marker: str,
    **style: Any,
) -> None:
    """Medians with the spread around them."""
    found = [row[key] for row in rows]
    spreads = [cell for cell in found if isinstance(cell, Spread)]
    middle = [spread.median for spread in spreads]
    low = [spread.median - spread.least for spread in spreads]
    high = [spread.most - spread.median for spread in spreads]
    axes.errorbar(
        x,
        middle,
        yerr=(low, high),
        label=label,
        color=colour,
        marker=marker,
        capsize=2,
        **style,
    )


def _middle(cell: Cell) -> float:
    assert isinstance(cell, Spread)
    return cell.median


def _number(cell: Cell) -> int:
    assert isinstance(cell, int)
    return cell
