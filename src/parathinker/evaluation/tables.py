"""A run's outcomes as rows: accuracy with its error, tokens, latency, and paired comparisons."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parathinker.evaluation.statistics import Comparison, Estimate, compare, estimate
from parathinker.evaluation.store import Outcome, RunStore

BASELINES = ("majority", "sequential")
REFERENCES = (*BASELINES, "parallel")
"""What other methods are compared with, where a run has them."""


@dataclass(frozen=True)
class Row:
    """One method at one width on one benchmark."""

    benchmark: str
    method: str
    width: int
    accuracy: Estimate
    """Of pass@1, from 0 to 1."""
    path_tokens: float
    """Generated in paths, a question."""
    summary_tokens: float
    budget: int
    """Tokens that it could have generated."""
    depth: float
    """Tokens one after another, a question."""
    prefill_tokens: float
    """Read again, a question."""
    latency_s: float | None
    """Median seconds of one answer alone on the machine; None where none was timed."""
    replicates: int
    most_tokens: int
    """Of any one answer; never more than the budget."""


@dataclass(frozen=True)
class Paired:
    """One method against another at the same width, budget and questions."""

    benchmark: str
    width: int
    method: str
    reference: str
    comparison: Comparison


Key = tuple[str, str, int]
"""Benchmark, method and width."""


class Results:
    """What a run has found so far; questions that lack answers are left out.

    A question counts for a method and width once all replicates that any of its questions has are
    there, so that a run that was stopped can be looked at.
    """

    def __init__(self, store: RunStore) -> None:
        self.settings = store.fact("settings") or {}
        self.model = str(store.fact("model"))
        self._left_out: list[str] = store.fact("left out") or []
        self.unscored = store.unscored()
        self._outcomes: dict[Key, dict[str, dict[int, Outcome]]] = {}
        for cell, outcome in store.outcomes():
            key = cell.benchmark, cell.method, cell.width
            by_question = self._outcomes.setdefault(key, {}).setdefault(cell.question_id, {})
            by_question[cell.replicate] = outcome
        self._latencies: dict[Key, list[float]] = {}
        for benchmark, method, width, seconds in store.latencies():
            self._latencies.setdefault((benchmark, method, width), []).append(seconds)

    def keys(self) -> list[Key]:
        """All methods at all widths, benchmark by benchmark, widths ascending."""
        order = {name: i for i, name in enumerate(self.settings.get("benchmarks", ()))}
        return sorted(self._outcomes, key=lambda k: (order.get(k[0], 0), k[2], k[1]))

    def outcomes(self, key: Key) -> dict[str, list[Outcome]]:
        """Replicates of each question that has all of them."""
        found = self._outcomes[key]
        wanted = set[int]().union(*found.values())
        return {
            question: [by_replicate[i] for i in sorted(wanted)]
            for question, by_replicate in found.items()
            if set(by_replicate) == wanted
        }

    @property
    def left_out(self) -> list[str]:
        """What tables lack, and why."""
        return [*self._left_out, *self._lacking()]

    def _lacking(self) -> list[str]:
        """Questions without all samples, such as those that a run added with fewer of them."""
        found = []
        for benchmark in dict.fromkeys(benchmark for benchmark, _, _ in self.keys()):
            own = [key for key in self._outcomes if key[0] == benchmark]
            lacking = set[str]().union(
                *(self._outcomes[key].keys() - self.outcomes(key).keys() for key in own)
            )
            most = max(len(set[int]().union(*self._outcomes[key].values())) for key in own)
            if lacking:
                asked = set[str]().union(*(self._outcomes[key] for key in own))
                limit = self.settings.get("limit")
                same = f"--limit {limit} --samples {most}" if limit else f"--samples {most}"
                found.append(
                    f"{benchmark}: {len(lacking)} of {len(asked)} questions, which lack some of "
                    f"the others' {most} samples; {same} answers them all"
                )
        return found

    def rows(self) -> list[Row]:
        """A row for each method and width."""
        return [self._row(key) for key in self.keys() if self.outcomes(key)]

    def paired(self, references: Sequence[str] = REFERENCES) -> list[Paired]:
        """Every method against each of the references, where both answered the same questions.

        Baselines done with other models are references, too. Baselines less native thinking would
        say the same as that less the baselines, and are left out.
        """
        found = []
        others = [method for _, method, _ in self.keys() if _of_another_model(method, BASELINES)]
        baselines = {*BASELINES, *others}
        for benchmark, method, width in self.keys():
            for reference in dict.fromkeys((*references, *others)):
                if method == reference or (benchmark, reference, width) not in self._outcomes:
                    continue
                if method in baselines and reference not in baselines:
                    continue
                one = self.outcomes((benchmark, method, width))
                other = self.outcomes((benchmark, reference, width))
                both = [question for question in one if question in other]
                if both:
                    comparison = compare(
                        [_scores(one[q]) for q in both], [_scores(other[q]) for q in both]
                    )
                    found.append(Paired(benchmark, width, method, reference, comparison))
        return found

    def _row(self, key: Key) -> Row:
        benchmark, method, width = key
        by_question = self.outcomes(key)
        flat = [outcome for some in by_question.values() for outcome in some]
        latencies = self._latencies.get(key)
        return Row(
            benchmark,
            method,
            width,
            estimate([_scores(some) for some in by_question.values()]),
            _mean(outcome.path_tokens for outcome in flat),
            _mean(outcome.summary_tokens for outcome in flat),
            width * int(self.settings.get("budget", 0)),
            _mean(outcome.depth for outcome in flat),
            _mean(outcome.prefill_tokens for outcome in flat),
            statistics.median(latencies) if latencies else None,
            max(len(some) for some in by_question.values()),
            max(outcome.tokens for outcome in flat),
        )


def _of_another_model(method: str, references: Sequence[str]) -> bool:
    name, _, model = method.partition(":model=")
    return name in references and bool(model) and "," not in model


def percent(estimate_: Estimate) -> str:
    """A mean and its standard error in percent."""
    if math.isnan(estimate_.error):
        return f"{100 * estimate_.mean:.1f}"
    return f"{100 * estimate_.mean:.1f} ± {100 * estimate_.error:.1f}"


def _scores(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.score for outcome in outcomes]


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def without_nan(value: Any) -> Any:
    """Plain data with None for numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    return value
