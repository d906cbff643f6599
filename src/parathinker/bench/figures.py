"""What a benchmark finds, as plain data: spreads, tables of them, verdicts against targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A figure that was measured several times."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """From the single measurements, of which there is at least one."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1], len(found))


@dataclass(frozen=True)
class Estimate:
    """A mean over a sample, with its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """From independent values; the error of a single one is unknown."""
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), error)


Cell = Spread | Estimate | float | int | str | None


@dataclass(frozen=True)
class Column:
    """One column of a section's table."""

    key: str
    """In JSON; ends in its unit where it has one."""
    heading: str
    digits: int = 2
    """Behind the decimal point."""

    def show(self, cell: Cell, brief: bool = False) -> str:
        """A cell for people: a median has least and most in brackets.

        Args:
            brief: how far the measurements lie from the median at most, in percent of it, instead.
        """
        if isinstance(cell, Spread):
            shown, least, most = (self.show(v) for v in (cell.median, cell.least, cell.most))
            if cell.count == 1:
                return shown
            if not brief:
                return f"{shown} ({least}–{most})"
            far = max(cell.most - cell.median, cell.median - cell.least)
            return f"{shown} ±{100 * far / abs(cell.median):.0f}%" if cell.median else shown
        if isinstance(cell, Estimate):
            return f"{self.show(cell.mean)} ± {self.show(cell.error)}"
        if isinstance(cell, float):
            return f"{cell:,.{self.digits}f}"
        return "–" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell


@dataclass(frozen=True)
class Verdict:
    """A measured figure beside its target."""

    name: str
    what: str
    where: str
    """In which of the measured cases."""
    value: float
    relation: str
    limit: float
    unit: str
    met: bool | None
    """None: the target says nothing about this case, for the reason in ``why``."""
    why: str = ""


@dataclass
class Section:
    """One section's findings."""

    name: str
    title: str
    columns: tuple[Column, ...] = ()
    rows: list[Mapping[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: str | None = None
    """Why there is nothing to show."""
    seconds: float = 0.0
    """How long it took to measure."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; verdicts stand elsewhere."""
        return {
            "name": self.name,
            "title": self.title,
            "rows": [{key: plain(cell) for key, cell in row.items()} for row in self.rows],
            "notes": self.notes,
            "left_out": self.left_out,
            "seconds": round(self.seconds, 3),
        }


def plain(cell: Cell) -> Any:
    """A cell for JSON, which has no NaN."""
    if isinstance(cell, (Spread, Estimate)):
        return {name: plain(value) for name, value in vars(cell).items()}
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def shown_table(section: Section, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """A section's headings, and its rows as text; ``brief`` as in :meth:`Column.show`."""
    headings = [column.heading for column in section.columns]
    rows = [
        [column.show(row.get(column.key), brief) for column in section.columns]
        for row in section.rows
    ]
    return headings, rows
