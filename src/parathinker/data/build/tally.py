"""What each step of a build got, kept and dropped, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts of one step; ``unit`` is what it counts: questions, samples or paths."""

    step: str
    unit: str
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """How many were dropped, by reason."""

    @property
    def came(self) -> int:
        """How many the step got."""
        return self.kept + self.dropped.total()

    def drop(self, reason: str, count: int = 1) -> None:
        """Note that so many were dropped."""
        if count:
            self.dropped[reason] += count

    def to_dict(self) -> dict[str, Any]:
        """As ``build.json`` has it."""
        return {
            "step": self.step,
            "unit": self.unit,
            "came": self.came,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
        }


@dataclass(frozen=True)
class DroppedQuestion:
    """One line of ``dropped.jsonl``."""

    id: str
    question: str
    step: str
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)
    """Such as the benchmark's question that matched."""
