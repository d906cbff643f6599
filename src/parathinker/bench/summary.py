"""The summary's first token: it should take a decode step, however long the paths are.

Beside it stands what every other engine has to do: prefill prompt and all paths as one flat text.
"""

from __future__ import annotations

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.flat import FlatRun
from parathinker.bench.forced import ForcedRun, need_room, run_forced
from parathinker.bench.setting import Bench
from parathinker.bench.targets import judge
from parathinker.errors import UsageError

_LONG = 1000
"""Paths from this length on are run twice only, and their flat text once."""
COLUMNS = (
    Column("path_tokens", "tokens a path"),
    Column("step_ms", "step, ms"),
    Column("summary_ttft_ms", "summary's first, ms"),
    Column("over_step", "÷ step"),
    Column("refill_tokens", "flat text, tokens"),
    Column("refill_ms", "its prefill, ms", 0),
    Column("over_refill_percent", "of that, %"),
)


def measure(bench: Bench) -> Section:
    """The section."""
    sizes, paths = bench.sizes, bench.usual_paths
    section = Section("summary", f"The summary's first token after {paths} paths", COLUMNS)
    lengths: list[int] = []
    for length in sizes.lengths:
        try:
            need_room(bench, sizes.prompt, length)
            lengths.append(length)
        except UsageError as error:
            section.notes.append(f"left out: {error}")
    runs: dict[int, list[ForcedRun]] = {length: [] for length in lengths}
    flat: dict[int, list[float]] = {length: [] for length in lengths}
    flat_tokens = {n: sizes.prompt + paths * (n + 1) + 1 for n in lengths}
    bench.warm_up((paths,))
    for repeat in range(sizes.repeats):
        for length in lengths:
            bench.progress(f"paths of {length:,} tokens", repeat, sizes.repeats)
            if length < _LONG or repeat < 2:
                runs[length].append(run_forced(bench, sizes.prompt, length, paths, repeat))
            if length < _LONG or repeat < 1:
                flat[length].append(FlatRun.time(bench.runner, flat_tokens[length]))
            bench.progress(f"paths of {length:,} tokens", repeat + 1, sizes.repeats)
    for length in lengths:
        over = Spread.of(run.summary_ttft_s / run.step_s for run in runs[length])
        refill = Spread.of(1000 * seconds for seconds in flat[length])
        section.rows.append(
            {
                "path_tokens": length,
                "step_ms": Spread.of(1000 * run.step_s for run in runs[length]),
                "summary_ttft_ms": Spread.of(1000 * run.summary_ttft_s for run in runs[length]),
                "over_step": over,
                "refill_tokens": flat_tokens[length],
                "refill_ms": refill,
                "over_refill_percent": Spread.of(
                    1e5 * run.summary_ttft_s / refill.median for run in runs[length]
                ),
            }
        )
        section.verdicts.append(judge("summary_ttft", f"{length:,} tokens a path", over.median))
    section.notes.append(
        "all but the last tokens of the paths are forced; the flat text is prompt, all paths and "
        "the summary's opening"
    )
    return section
