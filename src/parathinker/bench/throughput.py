"""Requests at once against the same requests one after the other."""

from __future__ import annotations

import time

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.setting import Bench
from parathinker.bench.targets import judge
from parathinker.bench.workload import exactly

_MOST_REPEATS = 3
COLUMNS = (
    Column("requests", "requests"),
    Column("paths", "paths"),
    Column("one_by_one_s", "one by one, s"),
    Column("together_s", "together, s"),
    Column("gain", "gain, ×"),
    Column("tokens_per_s", "tokens/s together", 0),
)


def measure(bench: Bench) -> Section:
    """The section."""
    sizes, paths = bench.sizes, bench.usual_paths
    section = Section("throughput", "Several requests at once", COLUMNS)
    # They begin differently, so that none finds another's prompt in memory.
    questions = [bench.question(start=f"Question {i}: ") for i in range(sizes.requests)]
    repeats = min(sizes.repeats, _MOST_REPEATS)
    bench.warm_up((paths,))
    model = bench.model
    alone: list[float] = []
    together: list[float] = []
    tokens = 0
    for seed in range(repeats):
        params = exactly(paths, sizes.path, sizes.summary, seed)
        bench.progress("requests one by one and together", seed, repeats)
        model.forget_prefixes()
        began = time.perf_counter()
        for question in questions:
            model.think(question, params)
        alone.append(time.perf_counter() - began)
        model.forget_prefixes()
        began = time.perf_counter()
        answers = model.think(questions, params)
        together.append(time.perf_counter() - began)
        tokens = sum(a.usage.path_tokens + a.usage.summary_tokens for a in answers)
    bench.progress("requests one by one and together", repeats, repeats)
    gain = Spread.of(a / b for a, b in zip(alone, together, strict=True))
    section.rows.append(
        {
            "requests": sizes.requests,
            "paths": paths,
            "one_by_one_s": Spread.of(alone),
            "together_s": Spread.of(together),
            "gain": gain,
            "tokens_per_s": Spread.of(tokens / seconds for seconds in together),
        }
    )
    where = f"{sizes.requests} requests of {paths} paths"
    why = "" if sizes.requests == 8 else "the target is for eight requests"
    section.verdicts.append(judge("throughput", where, gain.median, why))
    section.notes.append(
        f"prompts of {sizes.prompt} tokens, paths of {sizes.path}, summaries of {sizes.summary}"
    )
    return section
