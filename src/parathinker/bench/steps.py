"""A decode step by number of paths: against the roofline, against one path, and what else it does.

A step is ``think_s`` shared out among all tokens of a path but the first, which prefill ends with.
"""

from __future__ import annotations

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.roofline import Context
from parathinker.bench.rounds import Round
from parathinker.bench.setting import USUAL_PATHS, Bench
from parathinker.bench.targets import judge

_MANY = 16
COLUMNS = (
    Column("paths", "paths"),
    Column("step_ms", "step, ms"),
    Column("roofline_ms", "roofline, ms"),
    Column("over_roofline", "÷ roofline"),
    Column("over_one_path", "÷ one path"),
    Column("not_matmul_percent", "not matrix products, %", 1),
)


def measure(bench: Bench) -> Section:
    """The section."""
    rounds, sizes = bench.rounds, bench.sizes
    timed = all(r.products_s for r in rounds)
    section = Section("steps", "A decode step", COLUMNS)
    context = Context(sizes.prompt, sizes.path / 2)

    def roofline(round_: Round, paths: int) -> float:
        return bench.roofline.seconds(round_.limits[paths], paths, context)

    def step(round_: Round, paths: int) -> float:
        return round_.timings[paths].think_s / (sizes.path - 1)

    for paths in bench.paths:
        over = Spread.of(step(r, paths) / roofline(r, paths) for r in rounds)
        other = None
        if timed:
            other = Spread.of(100 * (1 - r.products_s[paths] / step(r, paths)) for r in rounds)
        width = None
        if 1 in bench.paths:
            width = Spread.of(step(r, paths) / step(r, 1) for r in rounds)
        section.rows.append(
            {
                "paths": paths,
                "step_ms": Spread.of(1000 * step(r, paths) for r in rounds),
                "roofline_ms": Spread.of(1000 * roofline(r, paths) for r in rounds),
                "over_roofline": over,
                "over_one_path": width,
                "not_matmul_percent": other,
            }
        )
        where = f"{paths} paths" if paths > 1 else "1 path"
        section.verdicts.append(judge("step", where, over.median, bench.why_no_roofline))
        if paths == _MANY and width is not None:
            section.verdicts.append(judge("width", where, width.median))
        if paths == USUAL_PATHS and other is not None:
            section.verdicts.append(judge("not_matmul", where, other.median, bench.why_no_roofline))
    section.notes.append(
        f"prompt {sizes.prompt} tokens, paths {sizes.path}, {sizes.repeats} rounds; roofline: "
        "max(bytes ÷ bandwidth, operations ÷ peak), with "
        f"{bench.roofline.weight_bytes / 1e6:,.0f} MB of weights read once, and keys and values"
    )
    if not timed:
        section.notes.append(
            "only the compiled kernels time their matrix products, so what else a step does is not "
            "known"
        )
    if bench.why_no_roofline:
        section.notes.append(bench.why_no_roofline)
    return section
