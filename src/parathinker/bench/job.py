"""The whole job, part by part: prompt, paths in parallel, summary; and what parallelism costs."""

from __future__ import annotations

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.setting import USUAL_PATHS, Bench

PARTS = ("prefill_s", "think_s", "summary_s")
"""What a job's time is made of, in order."""
PAPER_OVERHEAD = 7.1
"""Percent; on a GPU, with paths of thousands of tokens."""
COLUMNS = (
    Column("paths", "paths"),
    Column("prefill_s", "prefill, s", 3),
    Column("think_s", "think, s"),
    Column("summary_ttft_s", "summary's first, s", 3),
    Column("summary_s", "summary, s", 3),
    Column("total_s", "total, s"),
    Column("over_one_path", "÷ 1 path"),
    Column("over_one_job", "÷ 1 path's total"),
)


def measure(bench: Bench) -> Section:
    """The section."""
    sizes, rounds = bench.sizes, bench.rounds
    section = Section("job", "The whole job", COLUMNS)
    for paths in bench.paths:
        row: dict[str, int | Spread | None] = {"paths": paths}
        for part in (*PARTS, "summary_ttft_s", "total_s"):
            row[part] = Spread.of(getattr(r.timings[paths], part) for r in rounds)
        if 1 in bench.paths:
            pairs = [(r.timings[paths].total_s, r.timings[1]) for r in rounds]
            over = Spread.of(total / (one.prefill_s + one.think_s) for total, one in pairs)
            row["over_one_path"] = over
            row["over_one_job"] = Spread.of(total / one.total_s for total, one in pairs)
            if paths == USUAL_PATHS:
                section.notes.append(
                    f"{paths} paths and their summary take {100 * (over.median - 1):.1f}% longer "
                    f"than one path of the same length; in the paper, {PAPER_OVERHEAD}%"
                )
        section.rows.append(row)
    section.notes += [
        f"prompt {sizes.prompt} tokens, paths of exactly {sizes.path}, summary of exactly "
        f"{sizes.summary}; {sizes.repeats} rounds; nothing cached",
        "÷ 1 path: against one path alone, which needs no summary; with paths as short as these "
        "the summary is most of the difference",
    ]
    return section
