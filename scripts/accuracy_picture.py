"""The README's picture: accuracy of a run's main methods against the number of paths.

python scripts/accuracy_picture.py runs/paper/tiny docs/images/accuracy.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parathinker.evaluation.plotting import STYLES, error_line
from parathinker.evaluation.report.strokes import log_x, nudge
from parathinker.evaluation.store import RunStore
from parathinker.evaluation.tables import Results

LINES = {
    "parallel": "parallel thinking",
    "majority": "majority vote",
    "likeliest": "likeliest path",
    "best": "any path right (the voter knows the answer)",
    "sequential:greedy=true": "one greedy path",
}
"""Methods, and what they are called."""


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    from matplotlib.figure import Figure

    with RunStore(args.run) as store:
        rows = Results(store).rows()
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    for i, (method, label) in enumerate(LINES.items()):
        found = [row for row in rows if row.method == method]
        if found:
            x = [row.width * nudge(i, len(LINES)) for row in found]
            error_line(axes, x, [row.accuracy for row in found], label, STYLES[i])
    log_x(axes, sorted({row.width for row in rows}))
    axes.set(
        xlabel="paths P; every method may generate P × 288 tokens",
        ylabel="right answers, %",
        ylim=(0, 101),
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(args.picture)


if __name__ == "__main__":
    main()
