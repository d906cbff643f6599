"""``paths="auto"`` against fixed numbers of paths: accuracy, and the tokens it costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from parathinker import ParaThinker, ThinkingParams
from parathinker.bench.figures import Column, Estimate, Section
from parathinker.bench.setting import EMBEDDED, Bench
from parathinker.data import products
from parathinker.params import AUTO

FIXED = (2, 4, 8)
_CHUNK = 20
"""Questions that think at once."""
COLUMNS = (
    Column("paths", "paths"),
    Column("accuracy_percent", "right, %"),
    Column("tokens", "tokens a question", 0),
    Column("mean_paths", "paths used"),
    Column("auto_gain_points", "auto − this, points"),
    Column("auto_saves_percent", "auto saves tokens, %", 1),
)


@dataclass
class _Outcome:
    """One way of thinking; each list has an entry for every question, a mean over seeds."""

    right: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    paths: list[float] = field(default_factory=list)


def measure(bench: Bench) -> Section:
    """The section."""
    sizes = bench.sizes
    entries = products.held_out_problems(sizes.problems)
    section = Section("adaptive", f"{EMBEDDED}: as many paths as it takes", COLUMNS)
    widths: tuple[int | str, ...] = (*FIXED, AUTO)
    outcomes: dict[int | str, _Outcome] = {}
    with bench.load(EMBEDDED, "auto") as model:
        for width in widths:
            outcomes[width] = _think(bench, model, entries, width)
    auto = outcomes[AUTO]
    for width, outcome in outcomes.items():
        gains = [a - b for a, b in zip(auto.right, outcome.right, strict=True)]
        tokens = Estimate.of(outcome.tokens)
        fixed = width != AUTO
        section.rows.append(
            {
                "paths": width,
                "accuracy_percent": Estimate.of(outcome.right),
                "tokens": tokens,
                "mean_paths": Estimate.of(outcome.paths),
                "auto_gain_points": Estimate.of(gains) if fixed else None,
                "auto_saves_percent": (
                    100 * (1 - Estimate.of(auto.tokens).mean / tokens.mean) if fixed else None
                ),
            }
        )
    section.notes += [
        f"{sizes.problems} held-out problems, {sizes.seeds} seeds, temperature 1; tokens of all "
        "paths and the summary; standard errors over problems, differences paired",
        _equal_accuracy([outcomes[width] for width in FIXED], auto),
    ]
    return section


def _think(
    bench: Bench, model: ParaThinker, entries: Sequence[dict[str, Any]], width: int | str
) -> _Outcome:
    seeds, outcome = bench.sizes.seeds, _Outcome()
    what = f"{width} paths" if width != AUTO else "as many paths as it takes"
    most = max(FIXED) if width == AUTO else None
    for first in range(0, len(entries), _CHUNK):
        bench.progress(what, first, len(entries))
        chunk = entries[first : first + _CHUNK]
        questions = [str(entry["question"]) for entry in chunk]
        runs = [
            model.think(
                questions,
                ThinkingParams(
                    paths=width,
                    max_paths=most,
                    termination="last-finish",
                    temperature=1.0,
                    seed=seed,
                ),
            )
            for seed in range(seeds)
        ]
        for entry, answers in zip(chunk, zip(*runs, strict=True), strict=True):
            texts = [products.parse_answer(answer.text) for answer in answers]
            right = [products.score(text, entry) == 1.0 for text in texts]
            used = [a.usage.path_tokens + a.usage.summary_tokens for a in answers]
            outcome.right.append(100 * sum(right) / seeds)
            outcome.tokens.append(sum(used) / seeds)
            outcome.paths.append(sum(len(answer.paths) for answer in answers) / seeds)
    bench.progress(what, len(entries), len(entries))
    return outcome


def _equal_accuracy(fixed: Sequence[_Outcome], auto: _Outcome) -> str:
    """Tokens saved against a fixed number of paths that is as often right, read off a straight
    line between the measured ones."""
    points = [(Estimate.of(o.right).mean, Estimate.of(o.tokens).mean) for o in fixed]
    wanted, used = Estimate.of(auto.right).mean, Estimate.of(auto.tokens).mean
    needed = math.inf
    for (low, cheap), (high, dear) in itertools.pairwise(points):
        if low <= wanted <= high and high > low:
            needed = min(needed, cheap + (wanted - low) / (high - low) * (dear - cheap))
    if wanted <= points[0][0]:
        needed = points[0][1]
    if math.isinf(needed):
        return f"auto is more often right than any of {FIXED[0]} to {FIXED[-1]} paths"
    return (
        f"fixed numbers of paths take about {needed:,.0f} tokens to be right as often as auto, "
        f"which takes {used:,.0f}: {100 * (1 - used / needed):+.0f}% saved"
    )
