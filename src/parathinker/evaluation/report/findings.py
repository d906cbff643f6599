"""What a report says about one run: its tables, what was left out, and how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from parathinker.errors import UsageError
from parathinker.evaluation.methods import Method, parse_method
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import RunStore
from parathinker.evaluation.tables import Paired, Results, Row, without_nan

Key = tuple[str, int]
"""Method and width."""


@dataclass(frozen=True)
class Standing:
    """All methods on one benchmark."""

    benchmark: str
    methods: Sequence[str]
    """In the order in which the run names them."""
    rows: Sequence[Row]
    """By width, then in that order."""
    paired: Sequence[Paired]
    latencies: Mapping[Key, Sequence[float]]
    """Seconds of each answer that was timed."""

    @property
    def widths(self) -> list[int]:
        """Ascending."""
        return sorted({row.width for row in self.rows})

    def of(self, method: str) -> list[Row]:
        """One method at all widths, ascending."""
        return [row for row in self.rows if row.method == method]

    def row(self, method: str, width: int) -> Row | None:
        """One method at one width, if it was measured."""
        found = [row for row in self.of(method) if row.width == width]
        return found[0] if found else None

    @property
    def questions(self) -> str:
        """How many were asked, and how often each."""
        counts = sorted({row.accuracy.questions for row in self.rows})
        times = sorted({row.replicates for row in self.rows})
        return (
            f"{_span(counts)} questions × {_span(times)} {'sample' if times == [1] else 'samples'}"
        )

    @property
    def references(self) -> str:
        """What methods are compared with."""
        names = list(dict.fromkeys(one.reference for one in self.paired))
        return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else "".join(names)


@dataclass(frozen=True)
class Finding:
    """One run."""

    name: str
    """Of its folder, told from the others'."""
    slug: str
    """The name as files and anchors may have it."""
    model: str
    standings: Sequence[Standing]
    left_out: Sequence[str]
    unfinished: bool
    settings: Mapping[str, Any]
    made: Sequence[Mapping[str, str]]
    """One for each time that the run was begun or gone on with: when, and on what."""
    scorer: str
    unscored: Mapping[str, int]
    """How many texts could not be scored, by what happened."""

    @property
    def methods(self) -> list[str]:
        """On any benchmark, in the run's order."""
        return list(dict.fromkeys(name for one in self.standings for name in one.methods))

    @property
    def widest(self) -> int:
        """The largest P."""
        return max(width for one in self.standings for width in one.widths)

    @property
    def seeds(self) -> str:
        """Of the requests, a seed for each sample."""
        chosen = EvalSettings(seed=self.settings["seed"])
        seeds = [chosen.seed_of(i) for i in (0, self.settings["samples"] - 1)]
        return f"{seeds[0]} to {seeds[1]}" if seeds[0] < seeds[1] else str(seeds[0])

    def to_dict(self) -> dict[str, Any]:
        """For scripts; numbers that are none are null."""
        found = {
            "name": self.name,
            "model": self.model,
            "settings": self.settings,
            "unfinished": self.unfinished,
            "left_out": self.left_out,
            "rows": [dataclasses.asdict(row) for one in self.standings for row in one.rows],
            "paired": [dataclasses.asdict(pair) for one in self.standings for pair in one.paired],
            "scorer": self.scorer,
            "unscored": self.unscored,
            "made": self.made,
        }
        plain: dict[str, Any] = without_nan(found)
        return plain


def find(store: RunStore, name: str, slug: str) -> Finding:
    """Read one run.

    Raises:
        UsageError: it has no answers yet.
    """
    results = Results(store)
    settings = {**EvalSettings().to_dict(), **results.settings}
    named = [_label(text) for text in settings.get("methods", ())]
    rows = sorted(results.rows(), key=lambda row: (row.width, _place(named, row.method)))
    if not rows:
        raise UsageError(f"{store.path.parent} holds no answers yet; go on with the run first")
    paired = sorted(results.paired(), key=lambda one: (one.width, _place(named, one.method)))
    latencies: dict[str, dict[Key, list[float]]] = {}
    for benchmark, method, width, seconds in store.latencies():
        latencies.setdefault(benchmark, {}).setdefault((method, width), []).append(seconds)
    standings = [
        Standing(
            benchmark,
            sorted(
                {row.method for row in rows if row.benchmark == benchmark},
                key=lambda method: _place(named, method),
            ),
            [row for row in rows if row.benchmark == benchmark],
            [one for one in paired if one.benchmark == benchmark],
            latencies.get(benchmark, {}),
        )
        for benchmark in dict.fromkeys(benchmark for benchmark, _, _ in results.keys())  # noqa: SIM118
        if any(row.benchmark == benchmark for row in rows)
    ]
    times = store.fact("runs") or []
    began = max((one.get("began", 0.0) for one in times), default=0.0)
    return Finding(
        name,
        slug,
        results.model,
        standings,
        results.left_out,
        (store.fact("finished") or 0.0) < began,
        settings,
        [_circumstances(one) for one in times],
        str(store.fact("scorer") or "unknown"),
        results.unscored,
    )


def method_of(label: str) -> Method | None:
    """The method behind a label; None where this version does not know it."""
    try:
        return parse_method(label)
    except UsageError:
        return None


def _label(text: str) -> str:
    method = method_of(text)
    return method.label if method else text


def _place(named: Sequence[str], method: str) -> tuple[int, str]:
    return (named.index(method) if method in named else len(named), method)


def _span(numbers: Sequence[int]) -> str:
    if numbers[0] == numbers[-1]:
        return f"{numbers[0]:,}"
    return f"{numbers[0]:,} to {numbers[-1]:,}"


def _circumstances(raw: Mapping[str, Any]) -> dict[str, str]:
    """When and on what, in words."""
    found: dict[str, str] = {}
    for name, value in raw.items():
        if name == "began":
            when = datetime.fromtimestamp(float(value), timezone.utc)
            found[name] = f"{when:%Y-%m-%d %H:%M} UTC"
        elif name == "settings":
            continue  # the run's own are told once
        elif isinstance(value, Mapping):
            found[name] = ", ".join(f"{key} {one or 'none'}" for key, one in value.items())
        else:
            found[name] = "unknown" if value is None else str(value)
    return found
