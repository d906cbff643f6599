"""How much thinking one chain can use: accuracy against its token budget, and where it stops
growing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parathinker.diagnostics.axes import apart, doubling_axis, percent_axis
from parathinker.diagnostics.findings import Findings
from parathinker.diagnostics.session import Session, opened
from parathinker.errors import UsageError
from parathinker.evaluation.lab import Case
from parathinker.evaluation.models import Watch
from parathinker.evaluation.plotting import STYLES, error_line
from parathinker.evaluation.report.text import count, p_value, plus_minus, points
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.statistics import Comparison, Estimate, compare, estimate
from parathinker.evaluation.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "budget"
NATURAL, FORCED = "natural", "forced"
KINDS = (NATURAL, FORCED)
_LABELS = {NATURAL: "Natural stop", FORCED: "Forced continuation"}
LEAST = 8
"""Tokens: of the smallest budget that is looked at unless it is asked for."""
_BUDGETS = 8
"""How many budgets are looked at unless they are named."""
_ERRORS = 2
"""Standard errors by which a larger budget has to be better to count."""


@dataclass(frozen=True)
class Chain:
    """One chain of thought within one budget."""

    question: str
    kind: str
    budget: int
    score: float
    tokens: int
    closed: bool
    """It came to an end by itself."""


@dataclass(frozen=True)
class Row:
    """All chains of one kind within one budget."""

    kind: str
    budget: int
    accuracy: Estimate
    tokens: float
    """Generated, a chain."""
    closed: float
    """Share of the chains that came to an end by themselves."""
    gain: Comparison | None
    """Over the budget before; None for the smallest."""


@dataclass(frozen=True)
class Growth:
    """Where one kind of chain stops growing."""

    kind: str
    stops_at: int | None
    """The first budget beyond which no larger one is better by more than twice its paired standard
    error; None where there are too few questions to know an error, or it is the largest."""


def table(chains: Sequence[Chain]) -> list[Row]:
    """Accuracy of each kind at each budget, budgets ascending."""
    rows = []
    for kind, by_budget in _by_kind(chains).items():
        before: list[list[float]] | None = None
        for budget, some in by_budget.items():
            scores_QR = _scores(some)
            rows.append(
                Row(
                    kind,
                    budget,
                    estimate(scores_QR),
                    sum(chain.tokens for chain in some) / len(some),
                    sum(chain.closed for chain in some) / len(some),
                    None if before is None else compare(scores_QR, before),
                )
            )
            before = scores_QR
    return rows


def growth(chains: Sequence[Chain]) -> list[Growth]:
    """Where each kind stops growing."""
    found = []
    for kind, by_budget in _by_kind(chains).items():
        scores = {budget: _scores(some) for budget, some in by_budget.items()}
        found.append(Growth(kind, _stops_at(scores)))
    return found


def forcing(chains: Sequence[Chain]) -> Comparison:
    """What going on by force is worth at the largest budget, against the natural end."""
    kinds = _by_kind(chains)
    natural, forced = (_scores(kinds[kind][max(kinds[kind])]) for kind in KINDS)
    return compare(forced, natural)


def run(
    settings: EvalSettings,
    folder: Path,
    budgets: Sequence[int] | None = None,
    watch: Watch = lambda *_: None,
) -> Findings:
    """Sample a chain of each kind for each question, and look at its beginnings.

    A chain within a smaller budget is the beginning of one within a larger, so each is sampled
    once, within the largest.

    Args:
        budgets: tokens; by default the largest powers of two up to the settings' budget.

    Raises:
        UsageError: a budget that is too small, or larger than the settings' budget.
    """
    swept = _checked(settings.budget, budgets)
    settings = dataclasses.replace(settings, paths=(1,))
    with opened(NAME, settings, folder, watch) as session:
        cases = session.cases(1)
        room = min(session.lab.chain_room(case) for case in cases)
        if swept[-1] > room:
            raise UsageError(
                f"a budget of {swept[-1]} does not fit: this model's context leaves a chain {room} "
                "tokens beside the longest prompt"
            )
        session.begin()
        items = [(case, kind) for case in cases for kind in KINDS]
        chains = session.each("chains", items, lambda item: _chains(session, *item, swept))
        return _findings([chain for some in chains for chain in some], session, swept)


def powers_of_two(most: int) -> list[int]:
    """The largest powers of two up to a budget, not too many, and the budget itself."""
    powers = [2**i for i in range(LEAST.bit_length() - 1, most.bit_length())]
    return sorted({*powers[-_BUDGETS:], most})


def _checked(most: int, budgets: Sequence[int] | None) -> list[int]:
    swept = sorted(set(budgets)) if budgets else powers_of_two(most)
    # A chain opens, says something, and closes.
    if swept[0] < 3:
        raise UsageError(f"a budget of {swept[0]} is too small for a chain; it takes at least 3")
    if swept[-1] > most:
        raise UsageError(f"a budget of {swept[-1]} is more than --budget, {most}")
    if len(swept) < 2:
        raise UsageError("a sweep needs at least two budgets; give a larger --budget, or --budgets")
    return swept


async def _chains(session: Session, case: Case, kind: str, budgets: Sequence[int]) -> list[Chain]:
    lab = session.lab
    made = await lab.chain(case, budgets[-1], kind == FORCED)
    found = []
    for budget in budgets:
        chain = lab.limited(made.segments[0], budget)
        score = await lab.score(case.question, chain.text)
        closed = chain.finish_reason == "stop"
        found.append(Chain(case.question.id, kind, budget, score, chain.tokens, closed))
    return found


def _findings(chains: Sequence[Chain], session: Session, budgets: Sequence[int]) -> Findings:
    rows, stops = table(chains), growth(chains)
    questions = rows[0].accuracy.questions
    forced = forcing(chains)
    notes = [_said(one, rows) for one in stops]
    notes.append(
        f"At {count(budgets[-1])} tokens, forced continuation less natural stop: "
        f"{points(forced.difference)} {plus_minus(forced.error)} points, "
        f"p = {p_value(forced.p_flipped)}."
    )
    notes += [
        "Rule: accuracy stops growing at the first budget beyond which no larger one is better by "
        f"more than {_ERRORS} times its paired standard error. With few questions that comes "
        "early: what cannot be told from chance does not count as growth.",
        "Budgets count every generated token. A chain within a smaller budget is the beginning of "
        "the same chain within a larger one, closed where the budget ends.",
        'Forced continuation writes "Wait" wherever the chain would end before its budget '
        '(arXiv 2501.19393). "Ended" is the share of chains that came to an end by themselves.',
    ]

    def plot(axes: Axes) -> None:
        for style, kind in enumerate(KINDS):
            own = [row for row in rows if row.kind == kind]
            x = apart([row.budget for row in own], budgets, 0.012 * (style - 0.5))
            error_line(axes, x, [row.accuracy for row in own], _LABELS[kind], STYLES[style])
        doubling_axis(axes, budgets, "budget of the chain, tokens")
        percent_axis(axes, "accuracy, % ± standard error")

    return Findings(
        NAME,
        f"{session.subject}: accuracy against a chain's budget, {questions} questions",
        ("chain", "budget", "right, %", "tokens", "ended, %", "gain, points", "p"),
        [
            (
                row.kind,
                count(row.budget),
                percent(row.accuracy),
                count(row.tokens),
                f"{100 * row.closed:.0f}",
                ""
                if row.gain is None
                else f"{points(row.gain.difference)} {plus_minus(row.gain.error)}",
                "" if row.gain is None else p_value(row.gain.p_flipped),
            )
            for row in rows
        ],
        notes,
        {
            "rows": [dataclasses.asdict(row) for row in rows],
            "growth": [dataclasses.asdict(one) for one in stops],
            "forced_less_natural": dataclasses.asdict(forced),
        },
        plot,
        f"{session.subject}, {questions} questions",
        session.identity,
        session.settings,
        {"budgets": list(budgets)},
    )


def _said(one: Growth, rows: Sequence[Row]) -> str:
    own = [row for row in rows if row.kind == one.kind]
    largest = own[-1]
    if largest.accuracy.questions < 2:
        return f"{_LABELS[one.kind]}: one question cannot tell where accuracy stops growing."
    if one.stops_at is None:
        return (
            f"{_LABELS[one.kind]}: accuracy is still growing at the largest budget, "
            f"{count(largest.budget)} tokens."
        )
    there = next(row for row in own if row.budget == one.stops_at)
    return (
        f"{_LABELS[one.kind]}: accuracy stops growing at {count(one.stops_at)} tokens: "
        f"{percent(there.accuracy)} % there, {percent(largest.accuracy)} % at "
        f"{count(largest.budget)}."
    )


def _stops_at(scores: Mapping[int, list[list[float]]]) -> int | None:
    budgets = sorted(scores)
    if len(scores[budgets[0]]) < 2:
        return None
    for i, budget in enumerate(budgets[:-1]):
        gains = [_gain(scores[larger], scores[budget]) for larger in budgets[i + 1 :]]
        if not any(difference > _ERRORS * error for difference, error in gains):
            return budget
    return None


def _gain(
    one_QR: Sequence[Sequence[float]], other_QR: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """A paired difference of mean scores, and its standard error."""
    paired = estimate(
        [
            [sum(one_R) / len(one_R) - sum(other_R) / len(other_R)]
            for one_R, other_R in zip(one_QR, other_QR, strict=True)
        ]
    )
    return paired.mean, paired.error


def _by_kind(chains: Sequence[Chain]) -> dict[str, dict[int, list[Chain]]]:
    found: dict[str, dict[int, list[Chain]]] = {}
    for chain in sorted(chains, key=lambda chain: chain.budget):
        found.setdefault(chain.kind, {}).setdefault(chain.budget, []).append(chain)
    return {kind: found[kind] for kind in KINDS if kind in found}


def _scores(chains: Sequence[Chain]) -> list[list[float]]:
    """Of each question, the scores of its replicates; questions always in the same order."""
    by_question: dict[str, list[float]] = {}
    for chain in sorted(chains, key=lambda chain: chain.question):
        by_question.setdefault(chain.question, []).append(chain.score)
    return list(by_question.values())
