"""Tunnel vision: whether a model still finds the answer once it has begun on a flawed path.

The first tokens of a path that ended wrong are forced on fresh attempts, the more of them the
further; an attempt that ends right has recovered. Tunnel vision is recovery that falls with the
length of what was forced (arXiv 2509.04475, section 2).
"""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parathinker.diagnostics.axes import percent_axis
from parathinker.diagnostics.findings import Findings
from parathinker.diagnostics.session import Session, opened
from parathinker.errors import UsageError
from parathinker.evaluation.generations import CUT, STOP, end_of_thinking
from parathinker.evaluation.lab import Case
from parathinker.evaluation.methods.summing import Parallel
from parathinker.evaluation.models import Watch
from parathinker.evaluation.plotting import STYLES, error_line
from parathinker.evaluation.report.text import count, p_value, plus_minus, points
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.statistics import Comparison, Estimate, compare, estimate
from parathinker.evaluation.tables import percent
from parathinker.params import paths_to_finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "tunnel-vision"
SHARES = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of the median wrong path: how much of a path is forced unless tokens are named."""
WRONG, RIGHT, PARALLEL = "wrong path", "right path", "wrong path, parallel"
LINES = (WRONG, RIGHT, PARALLEL)
_LABELS = {
    WRONG: "begun on a wrong path",
    RIGHT: "begun on a right path",
    PARALLEL: "parallel, one of P paths begun on a wrong one",
}
PER = 100
"""Tokens that slopes are given for."""
_STEPS = 1_000
"""Requests for each sampled path, each with randomness of its own; the last is the parallel one."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Trial:
    """One fresh attempt behind a forced prefix."""

    line: str
    question: str
    path: int
    """Which of the question's paths the prefix is from."""
    prefix: int
    """Tokens that were forced."""
    score: float
    tokens: int
    """Of the whole attempt, the prefix included."""


@dataclass(frozen=True)
class Row:
    """All attempts of one kind behind prefixes of one length."""

    line: str
    prefix: int
    recovered: Estimate
    paths: int
    """That prefixes were taken from."""
    tokens: float
    """Of an attempt."""


def table(trials: Sequence[Trial]) -> list[Row]:
    """Recovery by kind and prefix; a question's attempts count as one observation."""
    rows = []
    for kind in LINES:
        own = [trial for trial in trials if trial.line == kind]
        for prefix in sorted({trial.prefix for trial in own}):
            some = [trial for trial in own if trial.prefix == prefix]
            rows.append(
                Row(
                    kind,
                    prefix,
                    estimate([[t.score for t in one] for one in _by_question(some).values()]),
                    len({(trial.question, trial.path) for trial in some}),
                    statistics.fmean(trial.tokens for trial in some),
                )
            )
    return rows


def trend(trials: Iterable[Trial], kind: str) -> Comparison | None:
    """Whether recovery changes with the prefix: the mean slope over questions against none.

    A question's slope is that of the least-squares line through its attempts' scores, per
    :data:`PER` tokens. None where no question has prefixes of two lengths.
    """
    slopes = []
    for one in _by_question([trial for trial in trials if trial.line == kind]).values():
        prefixes = [float(trial.prefix) for trial in one]
        if len(set(prefixes)) > 1:
            fitted = statistics.linear_regression(prefixes, [trial.score for trial in one])
            slopes.append([PER * fitted.slope])
    return compare(slopes, [[0.0]] * len(slopes)) if slopes else None


def remedy(trials: Sequence[Trial]) -> Comparison | None:
    """Parallel thinking less one chain, behind the same flawed prefixes, all lengths together."""
    chain, parallel = (
        _by_question([trial for trial in trials if trial.line == kind and trial.prefix])
        for kind in (WRONG, PARALLEL)
    )
    both = [question for question in chain if question in parallel]
    if not both:
        return None
    return compare(
        [[trial.score for trial in parallel[question]] for question in both],
        [[trial.score for trial in chain[question]] for question in both],
    )


def run(
    settings: EvalSettings,
    folder: Path,
    prefix_tokens: Sequence[int] | None = None,
    continuations: int = 4,
    wrong_paths: int | None = None,
    watch: Watch = lambda *_: None,
) -> Findings:
    """Sample paths, force beginnings of the wrong ones on fresh attempts, and see what comes.

    Args:
        settings: its one width is the number of paths of parallel thinking, and of the paths that
            wrong ones are looked for in.
        prefix_tokens: how much to force; by default :data:`SHARES` of the median wrong path.
        continuations: fresh attempts behind each prefix.
        wrong_paths: of each question, drawn at random from those that there are; by default all.

    Raises:
        UsageError: no path is wrong, or a prefix does not fit the budget.
    """
    if not 1 <= continuations < _STEPS - 1:
        raise UsageError(f"continuations should be from 1 to {_STEPS - 2}; got {continuations}")
    if wrong_paths is not None and wrong_paths < 1:
        raise UsageError(f"wrong_paths should be a whole number from 1; got {wrong_paths}")
    width = max(settings.paths)
    with opened(NAME, settings, folder, watch) as session:
        cases = session.cases(width)
        Parallel.of(session.lab).check(cases[0], session.lab)
        room = cases[0].path_tokens - 3
        for tokens in prefix_tokens or ():
            if not 0 <= tokens <= room:
                raise UsageError(
                    f"--prefix-tokens {tokens} does not fit: of {settings.budget} tokens for each "
                    f"of {width} paths, {room} may be forced"
                )
        session.begin()
        sampled = session.each("paths", cases, lambda case: _sampled(session, case))
        paths = [path for some in sampled for path in some]
        starts = _starts(paths, wrong_paths, settings.seed)
        if not starts:
            raise UsageError(_nothing(paths, session))
        median = statistics.median(len(start.body) for start in starts if not start.right)
        lengths = prefix_tokens or [round(share * median) for share in SHARES]
        lengths = sorted({tokens for tokens in lengths if tokens <= room})
        jobs = [
            _Job(start, prefix, i)
            for start in starts
            for prefix in lengths
            if prefix < max(1, len(start.body))
            for i in [*range(continuations), *([] if start.right else [None])]
        ]
        if not any(not job.start.right for job in jobs):
            raise UsageError(
                f"no wrong path is longer than {lengths[0]} tokens; the median has {median:.0f}. "
                "Give smaller --prefix-tokens"
            )
        trials = session.each("continuations", jobs, lambda job: _tried(session, job))
        notes = _measured(paths, starts, continuations, session)
        options = {
            "prefix_tokens": lengths,
            "continuations": continuations,
            "wrong_paths": wrong_paths or "all",
        }
        return _findings(trials, notes, options, session)


@dataclass(frozen=True)
class _Sampled:
    """A path as the model wrote it by itself."""

    case: Case
    index: int
    body: tuple[int, ...]
    """Without opening and closing token."""
    right: bool
    closed: bool
    thought_id: int
    """Which ``<think i>`` it began behind: ids may choose how a path goes about a question."""


@dataclass(frozen=True)
class _Job:
    start: _Sampled
    prefix: int
    continuation: int | None
    """None is the parallel attempt."""


async def _sampled(session: Session, case: Case) -> list[_Sampled]:
    paths, _ = await session.lab.paths(case)
    return [
        _Sampled(
            case,
            index,
            path.token_ids[1:-1],
            await session.lab.score(case.question, path.text) >= 1,
            path.finish_reason == STOP,
            path.thought_id,
        )
        for index, path in enumerate(paths)
    ]


def _starts(paths: Sequence[_Sampled], most: int | None = None, seed: int = 0) -> list[_Sampled]:
    """Wrong paths that ended by themselves, and as many right ones of the same questions.

    Of each question ``most`` wrong ones are drawn, or all are taken where that is None.
    Of a question's right paths those are taken whose thought ids the wrong ones have, its own or,
    where they are used up, those of all questions.
    """
    by_question: dict[str, list[_Sampled]] = {}
    for path in paths:
        if path.closed and not path.right:
            by_question.setdefault(path.case.question.id, []).append(path)
    if most is not None:
        for question, own in by_question.items():
            drawn = random.Random(f"{seed}/{question}").sample(own, min(most, len(own)))
            by_question[question] = sorted(drawn, key=own.index)
    wrong = [path for own in by_question.values() for path in own]
    lacking = Counter(path.thought_id for path in wrong)
    chosen = []
    for question, own in by_question.items():
        left = [p for p in paths if p.closed and p.right and p.case.question.id == question]
        ids = Counter(path.thought_id for path in own)
        for _ in own[: len(left)]:
            best = max(left, key=lambda path: (ids[path.thought_id], lacking[path.thought_id]))
            left.remove(best)
            ids[best.thought_id] -= 1
            lacking[best.thought_id] -= 1
            chosen.append(best)
    return wrong + chosen


def _alike(starts: Sequence[_Sampled]) -> int:
    """How many right paths have a wrong one of their thought id, each counted once."""
    wrong, right = (
        Counter(start.thought_id for start in starts if start.right == kind)
        for kind in (False, True)
    )
    return (wrong & right).total()


async def _tried(session: Session, job: _Job) -> Trial:
    lab, start, prefix = session.lab, job.start, job.start.body[: job.prefix]
    case = start.case
    first_step = 1 + _STEPS * start.index
    if job.continuation is not None:
        kind = RIGHT if start.right else WRONG
        # As long as the single chain that all P paths' budget would buy.
        most = min(case.tokens, lab.chain_room(case))
        step = first_step + job.continuation
        tokens = most - 1 - len(prefix)
        made = await lab.grown(case, [prefix], tokens, step, [start.thought_id])
        attempt = made.segments[0]
        score, tokens = await lab.score(case.question, attempt.text), attempt.tokens
    else:
        kind = PARALLEL
        beginnings: list[tuple[int, ...]] = [()] * case.width
        beginnings[start.index] = prefix
        step = first_step + _STEPS - 1
        made = await lab.grown(case, beginnings, case.path_tokens - 1 - len(prefix), step)
        native = Parallel.of(lab)
        enough = paths_to_finish(case.width, native.termination)
        end = end_of_thinking([path.tokens for path in made.segments], enough)
        cut = [lab.limited(path, end, CUT) for path in made.segments]
        outcome = await native.summed(case, lab, cut, (made.key,))
        score, tokens = outcome.score, outcome.tokens
    path = start.index + case.width * (case.seed - session.settings.seed)
    return Trial(kind, case.question.id, path, job.prefix, score, tokens)


def _findings(
    trials: Sequence[Trial], measured: Sequence[str], options: dict[str, Any], session: Session
) -> Findings:
    rows = table(trials)
    slopes = {kind: trend(trials, kind) for kind in LINES}
    difference = remedy(trials)
    notes = [said(kind, slope) for kind, slope in slopes.items() if slope]
    if difference:
        notes.append(
            "Behind flawed prefixes, all lengths together, parallel thinking less one chain: "
            f"{points(difference.difference)} {plus_minus(difference.error)} points, "
            f"p = {p_value(difference.p_flipped)}."
        )
    width = max(session.settings.paths)

    def plot(axes: Axes) -> None:
        for style, kind in enumerate(LINES):
            own = [row for row in rows if row.line == kind]
            label = _LABELS[kind].replace("P", str(width))
            error_line(
                axes, [r.prefix for r in own], [r.recovered for r in own], label, STYLES[style]
            )
        axes.set_xlabel("tokens forced at the beginning")
        percent_axis(axes, "right in the end, % ± standard error")

    return Findings(
        NAME,
        f"{session.subject}: recovery behind forced beginnings",
        ("begun on", "forced", "right, %", "paths", "questions", "tokens"),
        [
            (
                row.line,
                count(row.prefix),
                percent(row.recovered),
                count(row.paths),
                count(row.recovered.questions),
                count(row.tokens),
            )
            for row in rows
        ],
        [*notes, *measured, *session.remarks(session.settings.paths)],
        {
            "rows": [dataclasses.asdict(row) for row in rows],
            f"slope_per_{PER}_tokens": {
                kind: dataclasses.asdict(slope) for kind, slope in slopes.items() if slope
            },
            "parallel_less_chain": dataclasses.asdict(difference) if difference else None,
        },
        plot,
        session.subject,
        session.identity,
        session.settings,
        options,
    )


def said(kind: str, slope: Comparison) -> str:
    """The trend of one line, in a sentence."""
    sure = slope.p_flipped < SIGNIFICANT
    verb = "shows no sure trend" if not sure else "falls" if slope.difference < 0 else "rises"
    return (
        f"Begun on a {kind}: accuracy {verb} with the length of what is forced, "
        f"{points(slope.difference)} {plus_minus(slope.error)} points for each {PER} tokens, "
        f"p = {p_value(slope.p_flipped)}."
    )


def _measured(
    paths: Sequence[_Sampled], starts: Sequence[_Sampled], continuations: int, session: Session
) -> list[str]:
    taken = sum(not start.right for start in starts)
    wrong = sum(path.closed and not path.right for path in paths)
    drawn = f" ({taken:,} of them drawn, so many of each question)" if taken < wrong else ""
    unfinished = sum(not (path.right or path.closed) for path in paths)
    left_out = f", {unfinished} that ran out of tokens left out" if unfinished else ""
    width = max(session.settings.paths)
    return [
        f"Of {len(paths):,} sampled paths {wrong:,} ended by themselves and wrong{drawn}"
        f"{left_out}; as many right ones of the same questions, where there are, are the control "
        f"({len(starts) - taken:,}, of which {_alike(starts):,} have the thought id of a wrong "
        "one). A path counts at prefixes shorter than itself, and goes on behind its own thought "
        "id.",
        f"Behind each prefix, {continuations} fresh attempts of one chain, and one of parallel "
        f"thinking in which one of {width} paths has the prefix; each within the same total of "
        f"{width * session.settings.budget:,} tokens, prefix and summary included, or what the "
        "model's context leaves.",
        "A longer beginning of a wrong path is likelier to hold the mistake already; the control "
        "shows what length alone does. Totals are limits: what was used is in the table.",
        "Standard errors are clustered by question. Trends: the least-squares slope of each "
        "question's scores on the tokens forced, mean over questions; p by flipping the slopes' "
        "signs at random, two-sided.",
    ]


def _nothing(paths: Sequence[_Sampled], session: Session) -> str:
    unfinished = sum(not path.closed for path in paths)
    asked = f"{len(paths)} paths sampled from {len(session.benchmark.questions)} questions"
    if unfinished:
        return (
            f"of {asked} none ended by itself with a wrong answer, and {unfinished} ran out of "
            "tokens; give a larger --budget, or more questions"
        )
    return f"none of {asked} is wrong: there is nothing to diagnose; take more or harder questions"


def _by_question(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.question, []).append(trial)
    return found
