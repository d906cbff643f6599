"""How much longer do many paths take than one? Seconds a step by number of paths, as ratios.

Run: python benchmarks/width.py [MODEL] [--tokens 64] [--rounds 5]
Every width thinks for the same number of steps. Rounds of all widths alternate, so that whatever
else the machine does falls on each of them alike; the table shows medians and the spread.
"""

from __future__ import annotations

import argparse
import statistics

from parathinker import ParaThinker, ThinkingParams

WIDTHS = (1, 2, 4, 8, 16)
QUESTION = "What is 48213 * 7689?"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny", help="name, folder or hub id")
    parser.add_argument("--tokens", type=int, default=64, help="steps of each path")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = ParaThinker.from_pretrained(options.model)
    widths = [width for width in WIDTHS if width <= model.max_paths]
    step_ms: dict[int, list[float]] = {width: [] for width in widths}
    for round_number in range(options.rounds + 1):
        for width in widths:
            params = ThinkingParams(
                paths=width,
                max_path_tokens=options.tokens,
                max_summary_tokens=8,
                termination="last-finish",
                seed=round_number,
            )
            answer = model.think(QUESTION, params)
            steps = max(len(path.token_ids) for path in answer.paths) - 2
            if round_number:  # the first round warms up
                step_ms[width].append(1000 * answer.timings.think_s / steps)
    one = statistics.median(step_ms[1])
    print(f"{options.model}, {options.rounds} rounds")
    print("paths   ms/step (min … max)     ratio to one path")
    for width, times in step_ms.items():
        median = statistics.median(times)
        spread = f"({min(times):.2f} … {max(times):.2f})"
        print(f"{width:5d}   {median:7.2f} {spread:18s} {median / one:.2f}")


if __name__ == "__main__":
    main()
