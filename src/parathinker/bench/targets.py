"""What the engine should reach. The only place where these figures stand."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from parathinker.bench.figures import Verdict

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "≤": operator.le,
    "≥": operator.ge,
}


@dataclass(frozen=True)
class Target:
    """A figure and what it should be."""

    what: str
    relation: str
    limit: float
    unit: str


TARGETS = {
    "step": Target("a decode step ÷ its roofline", "≤", 1.35, "×"),
    "width": Target("a step of 16 paths ÷ a step of one", "<", 2.3, "×"),
    "not_matmul": Target("share of a step that is not matrix products", "≤", 25.0, "%"),
    "summary_ttft": Target("the summary's first token ÷ a decode step", "≤", 1.3, "×"),
    "long": Target("a decode step at long context ÷ its roofline", "≤", 1.5, "×"),
    "throughput": Target("eight requests one by one ÷ all at once", "≥", 2.0, "×"),
    "start_model": Target("a new process, to the model's first token", "<", 6.0, "s"),
    "start_embedded": Target("a new process, to the embedded model's first token", "<", 3.0, "s"),
    "int8": Target("a step of one path, float32 ÷ int8", "≥", 2.0, "×"),
}


def judge(name: str, where: str, value: float, why_not: str = "") -> Verdict:
    """Hold a figure against its target; ``why_not`` it says nothing here."""
    target = TARGETS[name]
    met = None if why_not else _RELATIONS[target.relation](value, target.limit)
    return Verdict(
        name, target.what, where, value, target.relation, target.limit, target.unit, met, why_not
    )
