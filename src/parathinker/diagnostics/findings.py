"""What a diagnosis found: a table, what it says in words, a plot; and its files."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parathinker import __version__
from parathinker.errors import UsageError
from parathinker.evaluation.report.text import markdown
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.surroundings import surroundings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT, DATA = "report.md", "report.json"
_DPI = 200
_SHORT = 25
"""Characters of labels that stand side by side."""


@dataclass(frozen=True)
class Findings:
    """A diagnosis, ready to be shown."""

    name: str
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    """As people read them."""
    notes: Sequence[str]
    """Sentences: what it says, then how it was measured."""
    data: Mapping[str, Any]
    """The same as numbers from 0 to 1, and whatever else a script may want."""
    plot: Callable[[Axes], None]
    plot_title: str
    identity: str
    """The model's name and a digest of its weights."""
    settings: EvalSettings
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of this diagnosis alone."""
    height: float = 4.0
    """Of the plot, in inches."""

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        found = {
            "parathinker": __version__,
            "diagnosis": self.name,
            "title": self.title,
            "model": self.identity,
            "settings": self.settings.to_dict(),
            "options": self.options,
            "surroundings": surroundings(self.settings.backend),
            "notes": self.notes,
            **self.data,
        }
        plain: dict[str, Any] = _plain(found)
        return plain


def check_folder(folder: Path) -> None:
    """See whether a report could go there, before an hour of measuring is lost on it.

    Nothing is left behind: what is asked for may yet be refused, or the folder be another's.

    Raises:
        UsageError: it cannot be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be written to: {error.strerror or error}"
        ) from error
    finally:
        for path in made:
            with suppress(OSError):  # it was not made
                path.rmdir()


def write_report(found: Findings, folder: Path) -> Path:
    """Write ``report.md``, ``report.json`` and the plot, as PNG and SVG; returns the first.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        (folder / DATA).write_text(json.dumps(found.document(), indent=1) + "\n", "utf-8")
        drawn = _draw(found, folder)
        report = folder / REPORT
        report.write_text(_markdown(found, drawn), "utf-8")
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {folder}: {error.strerror or error}"
        ) from error
    return report


def _draw(found: Findings, folder: Path) -> str | None:
    """The plot's file name without its ending; None where matplotlib is missing."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    # Equal results give equal files.
    with rc_context({"svg.hashsalt": "parathinker", "font.size": 10}):
        figure = Figure(figsize=(6.5, found.height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        found.plot(axes)
        axes.set_title(found.plot_title, loc="left", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        labels = axes.get_legend_handles_labels()[1]
        if labels:
            columns = 3 if max(map(len, labels)) < _SHORT else 1
            figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
        figure.savefig(folder / f"{found.name}.png", dpi=_DPI)
        figure.savefig(folder / f"{found.name}.svg", metadata={"Date": None})
    return found.name


def _markdown(found: Findings, drawn: str | None) -> str:
    s = found.settings
    temperature = "the model's own" if s.temperature is None else f"{s.temperature:g}"
    measured = (
        f"{found.identity} on {s.benchmarks[0]}; {s.samples} "
        f"{'sample' if s.samples == 1 else 'samples'} of each question, "
        f"temperature {temperature}, seed {s.seed}. `{DATA}` has every number and setting."
    )
    lines = [list(map(markdown, found.headings)), ["---"] * len(found.headings)]
    lines += [list(map(markdown, row)) for row in found.rows]
    parts = [
        f"# {markdown(found.title)}",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
        f"![{markdown(found.plot_title)}]({drawn}.png)"
        if drawn
        else "Without a plot: it needs `pip install 'parathinker[eval]'`.",
        "\n".join(f"- {note}" for note in found.notes),
        measured,
    ]
    return "\n\n".join(parts) + "\n"


def _plain(value: Any) -> Any:
    """Plain data; what is no number, such as the error of a single question, is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
