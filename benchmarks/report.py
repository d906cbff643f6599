"""From raw.jsonl to report.md and its plots.

Run: python benchmarks/report.py [runs/bench/raw.jsonl] [--output DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from peers.catalog import BASELINE, CONTESTANTS, Contestant
from peers.raw import RawFile

FIGURES = {
    "total_s": ("Whole job", "s", 1, "total.png"),
    "step_ms": ("A decode step of all paths", "ms", 1, "step.png"),
    "summary_ttft_s": ("From the last path token to the summary's first", "ms", 1000, "ttft.png"),
    "prefill_s": ("From the question to every path's first token", "ms", 1000, None),
}
"""A figure's title, unit, factor from raw seconds, and plot."""
# Okabe and Ito's colours; with markers and dashes they survive black-and-white print.
STYLES = {
    "parathinker-fp32": {"color": "#D55E00", "marker": "o", "linewidth": 2.2},
    "parathinker-int8": {"color": "#D55E00", "marker": "s", "linewidth": 2.2, "linestyle": "--"},
    "transformers-fp32": {"color": "#000000", "marker": "^"},
    "vllm-fp32": {"color": "#0072B2", "marker": "D"},
    "llama.cpp-f32": {"color": "#009E73", "marker": "v"},
    "llama.cpp-q8_0": {"color": "#009E73", "marker": "P", "linestyle": "--"},
    "llama.cpp-q4_0": {"color": "#009E73", "marker": "X", "linestyle": ":"},
}


def main() -> None:
    """Write the report again from what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path, nargs="?", default=Path("runs/bench/raw.jsonl"))
    parser.add_argument("--output", type=Path, help="default: the raw file's folder")
    options = parser.parse_args()
    if not options.raw.is_file():
        parser.error(f"there is no {options.raw}; benchmarks/compare.py makes one")
    print(write_report(options.raw, options.output or options.raw.parent))


def write_report(raw_file: Path, folder: Path) -> Path:
    """Write ``report.md`` and one PNG for each plotted figure; returns the report's path."""
    raw = RawFile(raw_file)
    listed = [c for c in CONTESTANTS if c.name in raw.contestants()]
    ran = [c for c in listed if raw.values(c.name, "total_s")]
    parts = ["# ParaThinker and its peers on one machine", _introduction(raw.header)]
    for figure, (title, unit, factor, plot) in FIGURES.items():
        parts += [f"## {title}, {unit}", _table(raw, ran, figure, factor)]
        if plot and ran:
            _plot(raw, ran, figure, folder / plot)
            parts.append(f"![{title}]({plot})")
    parts += ["## Settings and versions", *(_settings(raw, contestant) for contestant in listed)]
    failed = [(c, raw.missing(c.name)) for c in listed]
    missing = [f"- **{c.title}** {reason}" for c, reason in failed if reason]
    if missing:
        parts += ["## Missing or incomplete", "\n".join(missing)]
    report = folder / "report.md"
    report.write_text("\n\n".join(parts) + "\n", "utf-8")
    return report


def _introduction(header: dict[str, Any]) -> str:
    return (
        f"{header['model']}; {header['machine']}; {header['threads']} threads; "
        f"{header['system']}.\n\n"
        f"The job: a prompt of {header['prompt_tokens']} tokens, P paths of exactly "
        f"{header['path_tokens']} sampled tokens each (temperature 1, whole vocabulary), then a "
        f"summary of {header['summary_tokens']} tokens. ParaThinker's summary reads the paths' "
        "keys and values where they are. A peer's reads prompt, paths and "
        f"{header['separator_tokens']} separator token as one context, of which prompt and first "
        "path are still in its cache; the other paths have to be prefilled again.\n\n"
        "Medians over all rounds, least and most in brackets. × is relative to ParaThinker fp32: "
        "2× takes twice as long."
    )


def _table(raw: RawFile, contestants: list[Contestant], figure: str, factor: float) -> str:
    columns = raw.paths()
    lines = [
        "| | " + " | ".join(f"P = {paths}" for paths in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    baseline = raw.medians(BASELINE, figure)
    for contestant in contestants:
        values, medians = raw.values(contestant.name, figure), raw.medians(contestant.name, figure)
        cells = []
        for paths in columns:
            if paths not in medians:
                cells.append("–")
                continue
            shown = [_number(factor * v) for v in (min(values[paths]), max(values[paths]))]
            cell = f"{_number(factor * medians[paths])} ({shown[0]}–{shown[1]})"
            if paths in baseline and contestant.name != BASELINE:
                cell += f", {medians[paths] / baseline[paths]:.2f}×"
            cells.append(cell)
        lines.append(f"| {contestant.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _settings(raw: RawFile, contestant: Contestant) -> str:
    stated = raw.settings(contestant.name)
    return f"**{contestant.title}**: " + "; ".join(f"{k} {v}" for k, v in stated.items())


def _plot(raw: RawFile, contestants: list[Contestant], figure: str, file: Path) -> None:
    title, unit, factor, _ = FIGURES[figure]
    canvas, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for contestant in contestants:
        values, medians = raw.values(contestant.name, figure), raw.medians(contestant.name, figure)
        low = [factor * (medians[p] - min(values[p])) for p in medians]
        high = [factor * (max(values[p]) - medians[p]) for p in medians]
        axes.errorbar(
            list(medians),
            [factor * value for value in medians.values()],
            yerr=(low, high),
            label=contestant.title,
            capsize=2,
            **STYLES.get(contestant.name, {}),
        )
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("paths")
    axes.set_ylabel(unit)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(raw.paths(), [str(paths) for paths in raw.paths()])
    axes.minorticks_off()
    _plain_ticks(axes.yaxis)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.legend(loc="outside right upper", fontsize=8, frameon=False)
    canvas.savefig(file, dpi=200)
    plt.close(canvas)


def _plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10 and so on, in plain digits."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))


if __name__ == "__main__":
    main()
