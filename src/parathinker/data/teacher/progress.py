"""How a sampling job shows: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from parathinker.data.teacher.job import Tally

LINE_EVERY_S = 10.0


class LineWatch:
    """Writes a line when the job begins, then every few seconds."""

    def __init__(self, console: Console, every_s: float = LINE_EVERY_S) -> None:
        self.tally: Tally | None = None
        self._console, self._every_s = console, every_s
        self._next = 0.0

    def update(self, tally: Tally) -> None:
        """See :class:`~.job.Watch`."""
        if self.tally is None:
            self.note(beginning(tally))
            self._next = time.monotonic() + self._every_s
        elif time.monotonic() >= self._next:
            done = tally.wanted - tally.left
            self.note(f"{done:,} of {tally.wanted:,} · {pace(tally)}")
            self._next = time.monotonic() + self._every_s
        self.tally = tally

    def note(self, text: str) -> None:
        """See :class:`~.job.Watch`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class BarWatch(LineWatch):
    """Moves a bar."""

    def __init__(self, console: Console, bar: Progress) -> None:
        super().__init__(console)
        self._bar = bar
        self._task = bar.add_task("", total=None, pace="")

    def update(self, tally: Tally) -> None:
        """See :class:`~.job.Watch`."""
        if self.tally is None:
            self.note(beginning(tally))
        self.tally = tally
        self._bar.update(
            self._task,
            total=tally.wanted,
            completed=tally.wanted - tally.left,
            pace=escape(pace(tally)),
        )


@contextmanager
def watching(console: Console, every_s: float = LINE_EVERY_S) -> Iterator[LineWatch]:
    """Show a job on ``console`` while the block runs."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineWatch(console, every_s)
        return
    # On a narrow terminal the text wraps, and the bar stays.
    text = TextColumn("{task.fields[pace]}", table_column=Column())
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), text)
    with Progress(*columns, console=console, transient=True) as bar:
        yield BarWatch(console, bar)


def beginning(tally: Tally) -> str:
    """What is there and what is to do, when a run begins."""
    there = f"{tally.before:,} of {tally.wanted:,} samples are there already" * bool(tally.before)
    failed = f"{tally.failed:,} failed before" * bool(tally.failed)
    todo = f"{tally.left:,} to ask for, of {tally.questions:,} questions"
    return "; ".join(filter(None, (there, failed, todo)))


def pace(tally: Tally) -> str:
    """Time left, samples and tokens a second, cost, failures; or how long nothing came."""
    seconds = max(tally.seconds, 1e-9)
    if not tally.arrived:
        return f"{tally.asked:,} asked for, none here yet after {duration(seconds)}"
    rate = tally.arrived / seconds
    parts = [f"{duration(tally.left / rate)} left"] if tally.left else []
    parts += [f"{rate:,.2f} samples/s", f"{tally.arrived_out / seconds:,.0f} tokens/s"]
    if tally.cost:
        parts.append(f"cost {tally.cost:,.2f} of about {tally.expected_cost:,.2f}")
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """As in ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"
