"""How different a question's paths are, and how much of what they know reaches the answer."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from parathinker.diagnostics.axes import apart, doubling_axis, percent_axis
from parathinker.diagnostics.findings import Findings
from parathinker.diagnostics.session import Session, opened
from parathinker.errors import UsageError
from parathinker.evaluation.lab import Case
from parathinker.evaluation.methods.summing import Parallel
from parathinker.evaluation.methods.voting import Majority, ballots, parties_of
from parathinker.evaluation.models import Watch
from parathinker.evaluation.plotting import STYLES, error_line
from parathinker.evaluation.report.text import p_value, plus_minus, points
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.statistics import Comparison, Estimate, compare, estimate
from parathinker.evaluation.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "diversity"
GRAM = 4
"""Tokens in a row that two paths have in common or not."""


@dataclass(frozen=True)
class Trial:
    """One question's paths, once."""

    question: str
    scores: tuple[float, ...]
    """Of each path."""
    answers: tuple[int, ...]
    """How many paths came to each answer."""
    distance: float
    """Mean over pairs of paths, 0 to 1."""
    majority: Mapping[int, float] = field(default_factory=dict)
    """Score of the first P paths' vote, by P."""
    parallel: Mapping[int, float] = field(default_factory=dict)
    """Score of their summary, by P."""

    @property
    def right(self) -> list[bool]:
        """Of each path."""
        return [score >= 1 for score in self.scores]


@dataclass(frozen=True)
class Row:
    """What P paths come to."""

    width: int
    any_right: Estimate
    """pass@P: of any P of the sampled paths."""
    best: Estimate
    """The best of the first P paths."""
    majority: Estimate | None
    """None where P was not asked for."""
    parallel: Estimate | None
    """None where P was not asked for, or does not fit the model or the budget."""
    parallel_less_majority: Comparison | None
    unused: Comparison | None
    """The best of the first P paths less parallel, which reads these: what one of them knew and
    the answer does not say."""


@dataclass(frozen=True)
class Spread:
    """How different the paths of a question are, mean over questions."""

    distinct: Estimate
    """Different answers, as a share of the paths that came to one."""
    entropy: Estimate
    """Of the answers, in bits."""
    distance: Estimate
    """Share of the :data:`GRAM`-grams of tokens of two paths that they do not have in common."""
    answered: Estimate
    """Share of the paths that came to an answer."""


def pass_at(paths: int, right: int, width: int) -> float:
    """The chance that of ``width`` paths drawn from a question's at least one is right.

    Unbiased in the paths sampled (arXiv 2107.03374, equation 1).
    """
    if not 1 <= width <= paths:
        raise ValueError(f"{width} of {paths} paths cannot be drawn")
    return 1 - math.comb(paths - right, width) / math.comb(paths, width)


def entropy(counts: Sequence[int]) -> float:
    """Of answers that so many paths came to, in bits."""
    total = sum(counts)
    return sum(n / total * math.log2(total / n) for n in counts if n)


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """1 minus the Jaccard index of two token sequences' :data:`GRAM`-grams; 0 is alike."""
    a, b = ({tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)} for ids in (one, other))
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def table(trials: Sequence[Trial]) -> list[Row]:
    """A row for each P up to the widest."""
    by_question = _by_question(trials)
    rows = []
    for width in range(1, min(len(trial.scores) for trial in trials) + 1):
        any_right = [
            [pass_at(len(right), sum(right), width)]
            for some in by_question.values()
            for right in [[one for trial in some for one in trial.right]]
        ]
        best = [[max(trial.scores[:width]) for trial in some] for some in by_question.values()]
        votes, sums = (
            [[found[width] for found in one if width in found] for one in column]
            for column in (
                [[trial.majority for trial in some] for some in by_question.values()],
                [[trial.parallel for trial in some] for some in by_question.values()],
            )
        )
        voted, summed = all(votes), all(sums)
        rows.append(
            Row(
                width,
                estimate(any_right),
                estimate(best),
                estimate(votes) if voted else None,
                estimate(sums) if summed else None,
                compare(sums, votes) if voted and summed else None,
                compare(best, sums) if summed else None,
            )
        )
    return rows


def spread(trials: Sequence[Trial]) -> Spread:
    """How different the paths are; questions without any answer have no diversity of answers."""
    by_question = _by_question(trials)
    answered = {
        question: found
        for question, some in by_question.items()
        if (found := [trial.answers for trial in some if trial.answers])
    }
    nothing = Estimate(math.nan, math.nan, 0)
    return Spread(
        estimate([[len(a) / sum(a) for a in some] for some in answered.values()])
        if answered
        else nothing,
        estimate([[entropy(a) for a in some] for some in answered.values()])
        if answered
        else nothing,
        estimate([[trial.distance for trial in some] for some in by_question.values()]),
        estimate([[sum(t.answers) / len(t.scores) for t in some] for some in by_question.values()]),
    )


def run(settings: EvalSettings, folder: Path, watch: Watch = lambda *_: None) -> Findings:
    """Sample the widest number of paths for each question and look at them.

    Args:
        settings: pass@P is worked out for every P up to the widest; majority vote and parallel
            thinking are measured at the widths that it names.

    Raises:
        UsageError: there are no two paths to compare.
    """
    widest = max(settings.paths)
    if widest < 2:
        raise UsageError("diversity takes at least two paths; give a larger --paths")
    with opened(NAME, settings, folder, watch) as session:
        left_out, widths = [], []
        for width in settings.paths:
            try:
                Parallel.of(session.lab).check(session.cases(width)[0], session.lab)
                widths.append(width)
            except UsageError as error:
                left_out.append(f"Left out at P = {width}, {error}.")
        session.begin()
        cases = session.cases(widest)
        trials = session.each("questions", cases, lambda case: _looked_at(session, case, widths))
        return _findings(trials, left_out, session)


async def _looked_at(session: Session, case: Case, widths: Sequence[int]) -> Trial:
    lab = session.lab
    paths, _ = await lab.paths(case)
    majority, parallel = {}, {}
    for width in session.settings.paths:
        narrow = dataclasses.replace(case, width=width)
        majority[width] = (await Majority().answer(narrow, lab)).score
        if width in widths:
            parallel[width] = (await Parallel.of(lab).answer(narrow, lab)).score
    votes = [vote.answer for vote in ballots(case.question, paths)]
    parties = await parties_of(case.question, votes, lab)
    return Trial(
        case.question.id,
        tuple([await lab.score(case.question, path.text) for path in paths]),
        tuple(sorted(map(len, parties), reverse=True)),
        statistics.fmean(
            distance(one.token_ids[1:-1], other.token_ids[1:-1])
            for one, other in combinations(paths, 2)
        ),
        majority,
        parallel,
    )


def _findings(trials: Sequence[Trial], left_out: Sequence[str], session: Session) -> Findings:
    rows, found = table(trials), spread(trials)
    questions, widest = rows[0].any_right.questions, max(session.settings.paths)
    notes = [
        f"Of {widest} paths, {percent(found.answered)} % come to an answer; "
        f"{percent(found.distinct)} different answers for every 100 paths that do; entropy of the "
        f"answers {_decimal(found.entropy)} bits.",
        f"Two paths of a question differ in {percent(found.distance)} % of their {GRAM}-grams of "
        "tokens (1 minus the Jaccard index, mean over pairs).",
        *_said(rows),
        *left_out,
        *session.remarks([row.width for row in rows if row.parallel]),
        f"pass@P is the unbiased estimate over draws of P from all {widest} sampled paths (arXiv "
        "2107.03374). Best of P, majority vote and parallel thinking have the first P of them. "
        f"Parallel thinking ends with {session.lab.termination} and pays for its summary out of "
        f"the same P × {session.settings.budget:,} tokens; the others have paths of full length.",
    ]

    widths = [1, *(width for width in session.settings.paths if width > 1)]

    def plot(axes: Axes) -> None:
        error_line(
            axes, [row.width for row in rows], [row.any_right for row in rows], "pass@P", STYLES[3]
        )
        for style, name in ((1, "majority"), (0, "parallel")):
            known = [(row.width, one) for row in rows if (one := getattr(row, name)) is not None]
            if known:
                x = apart([width for width, _ in known], widths, 0.012 * (style - 0.5))
                error_line(axes, x, [one for _, one in known], name, STYLES[style])
        doubling_axis(axes, widths, "P, paths")
        percent_axis(axes, "right, % ± standard error")

    return Findings(
        NAME,
        f"{session.subject}: what P paths come to, {questions} questions",
        (
            "P",
            "pass@P, %",
            "best of P, %",
            "majority, %",
            "parallel, %",
            "less majority",
            "left unused",
        ),
        [
            (
                str(row.width),
                percent(row.any_right),
                percent(row.best),
                percent(row.majority) if row.majority else "",
                percent(row.parallel) if row.parallel else "",
                _difference(row.parallel_less_majority),
                _difference(row.unused),
            )
            for row in rows
        ],
        notes,
        {
            "rows": [dataclasses.asdict(row) for row in rows],
            "spread": dataclasses.asdict(found),
        },
        plot,
        f"{session.subject}, {questions} questions",
        session.identity,
        session.settings,
    )


def _said(rows: Sequence[Row]) -> list[str]:
    known = [row for row in rows if row.parallel_less_majority]
    if not known:
        return []
    row = known[-1]
    assert row.parallel is not None
    assert row.majority is not None
    assert row.parallel_less_majority is not None
    return [
        f"At P = {row.width} one of these paths is right on {percent(row.best)} % of the "
        f"questions; the summary says so on {percent(row.parallel)} %, the vote on "
        f"{percent(row.majority)} %. "
        f"Summary less vote: {_difference(row.parallel_less_majority)} points, "
        f"p = {p_value(row.parallel_less_majority.p_flipped)}.",
        '"Less majority" is parallel thinking less the vote, "left unused" is the best of its P '
        "paths less parallel thinking: what one of them knew and the answer does not say. Both in "
        "points, paired by question.",
    ]


def _difference(one: Comparison | None) -> str:
    return "" if one is None else f"{points(one.difference)} {plus_minus(one.error)}"


def _decimal(one: Estimate) -> str:
    shown = f"{one.mean:.2f}"
    return shown if math.isnan(one.error) else f"{shown} ± {one.error:.2f}"


def _by_question(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.question, []).append(trial)
    return found
