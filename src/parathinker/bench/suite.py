"""All sections, one after the other; one that cannot run here says why and stops nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from parathinker.bench import (
    adaptive,
    job,
    long_context,
    machine,
    precision,
    start,
    steps,
    summary,
    throughput,
)
from parathinker.bench.figures import Section
from parathinker.bench.setting import Bench
from parathinker.errors import ParaThinkerError, UsageError

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "machine": lambda bench: machine.section(bench.machine),
    "steps": steps.measure,
    "job": job.measure,
    "summary": summary.measure,
    "long": long_context.measure,
    "throughput": throughput.measure,
    "start": start.measure,
    "precision": precision.measure,
    "adaptive": adaptive.measure,
}


def chosen(only: tuple[str, ...]) -> list[str]:
    """Names of the sections to measure, in their order.

    Raises:
        UsageError: there is no such section.
    """
    unknown = [name for name in only if name not in SECTIONS]
    if unknown:
        raise UsageError(f"sections are {', '.join(SECTIONS)}; got {unknown[0]!r}")
    return [name for name in SECTIONS if not only or name in only]


def run(bench: Bench, done: Callable[[list[Section]], None] = lambda _: None) -> list[Section]:
    """Measure the sections that were asked for.

    Args:
        done: called after each section with all that there are so far.
    """
    sections: list[Section] = []
    for name in chosen(bench.options.only):
        began = time.perf_counter()
        try:
            section = SECTIONS[name](bench)
        except ParaThinkerError as error:
            section = Section(name, name.capitalize(), left_out=str(error))
        section.seconds = time.perf_counter() - began
        sections.append(section)
        done(sections)
    bench.release()
    return sections
