"""Rounds of the same job at every number of paths, with the machine probed in between.

All numbers of paths alternate, so that whatever else the machine does falls on each of them alike,
and what is compared with another figure was measured in the same round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parathinker import Timings
from parathinker.bench.machine import Limits
from parathinker.bench.workload import exactly
from parathinker.engine.native.runner import ProductTime

if TYPE_CHECKING:
    from parathinker.bench.setting import Bench


@dataclass(frozen=True)
class Round:
    """One round; dicts are by number of paths."""

    limits: dict[int, Limits]
    """What the machine could do around each job: the mean of a probe before and one after."""
    timings: dict[int, Timings]
    products_s: dict[int, float]
    """Seconds of a step's matrix products; empty where the engine cannot tell."""


def run_rounds(bench: Bench) -> list[Round]:
    """Measure."""
    sizes, question = bench.sizes, bench.question()
    bench.warm_up(bench.paths)
    rounds: list[Round] = []
    total = sizes.repeats * len(bench.paths)
    before = bench.machine.probe()
    for seed in range(sizes.repeats):
        limits: dict[int, Limits] = {}
        timings: dict[int, Timings] = {}
        products_s: dict[int, float] = {}
        for done, paths in enumerate(bench.paths, seed * len(bench.paths)):
            bench.progress("prompt, paths, summary", done, total)
            params = exactly(paths, sizes.path, sizes.summary, seed)
            products = bench.model.load().products
            timings[paths] = bench.run(question, params)
            after = bench.machine.probe()
            limits[paths], before = before.mean(after), after
            since = bench.model.load().products
            if products is not None and since is not None:
                products_s[paths] = _mean(products, since, paths)
        rounds.append(Round(limits, timings, products_s))
    bench.progress("prompt, paths, summary", total, total)
    return rounds


def _mean(before: dict[int, ProductTime], after: dict[int, ProductTime], tokens: int) -> float:
    """Seconds of the matrix products of one forward of so many tokens, in between."""
    began, ended = before.get(tokens, ProductTime()), after[tokens]
    return (ended.seconds - began.seconds) / (ended.forwards - began.forwards)
