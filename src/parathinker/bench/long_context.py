"""A decode step where keys and values weigh as much as the weights."""

from __future__ import annotations

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.forced import ForcedRun, need_room, run_forced
from parathinker.bench.roofline import Context
from parathinker.bench.setting import Bench
from parathinker.bench.targets import judge

_MOST_REPEATS = 3
COLUMNS = (
    Column("paths", "paths"),
    Column("prompt_tokens", "prompt"),
    Column("path_tokens", "tokens a path"),
    Column("kv_mb", "keys and values, MB", 0),
    Column("step_ms", "step, ms"),
    Column("roofline_ms", "roofline, ms"),
    Column("over_roofline", "÷ roofline"),
)


def measure(bench: Bench) -> Section:
    """The section."""
    length, paths = bench.sizes.long, bench.usual_paths
    need_room(bench, length, length)
    section = Section("long", "A decode step at long context", COLUMNS)
    repeats = min(bench.sizes.repeats, _MOST_REPEATS)
    bench.warm_up((paths,))
    runs: list[ForcedRun] = []
    for seed in range(repeats):
        bench.progress("long paths", seed, repeats)
        runs.append(run_forced(bench, length, length, paths, seed))
    bench.progress("long paths", repeats, repeats)

    def roofline(run: ForcedRun) -> float:
        return bench.roofline.seconds(run.limits, paths, run.context)

    over = Spread.of(run.step_s / roofline(run) for run in runs)
    section.rows.append(
        {
            "paths": paths,
            "prompt_tokens": length,
            "path_tokens": length,
            "kv_mb": _kv_bytes(bench, runs[0].context, paths) / 1e6,
            "step_ms": Spread.of(1000 * run.step_s for run in runs),
            "roofline_ms": Spread.of(1000 * roofline(run) for run in runs),
            "over_roofline": over,
        }
    )
    why = bench.why_no_roofline
    section.verdicts.append(judge("long", f"{paths} × {length:,} + {length:,}", over.median, why))
    section.notes.append(
        "the roofline reads weights, the prompt's keys and values once, and every path's own"
    )
    return section


def _kv_bytes(bench: Bench, context: Context, paths: int) -> float:
    return (context.prompt + paths * context.path) * bench.roofline.kv_bytes_per_token
