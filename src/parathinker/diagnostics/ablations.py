"""What each part of the method is worth: the full model against the same with a part taken away,
and against models that were trained otherwise."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parathinker.diagnostics.findings import Findings
from parathinker.diagnostics.session import Session, opened
from parathinker.errors import CheckpointError, UsageError
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.single import Sequential
from parathinker.evaluation.methods.summing import FlatPositions, Parallel, Reprefill
from parathinker.evaluation.models import Watch, model_identity
from parathinker.evaluation.plotting import STYLES, error_bar
from parathinker.evaluation.report.text import count, p_value, plus_minus, points
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.statistics import Comparison, Estimate, compare, estimate
from parathinker.evaluation.tables import percent
from parathinker.modeling.facts import read_facts
from parathinker.modeling.folders import resolve_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "ablations"
FULL = "full model"
DATA_ONLY = "data only, one chain"
NO_THOUGHTS, FLAT, REPREFILL = "no thought embedding", "flattened positions", "re-prefill"
TAKEN_AWAY = (NO_THOUGHTS, FLAT, REPREFILL)
"""Taken away at inference from a model that was trained with it."""


@dataclass(frozen=True)
class Trial:
    """One answer."""

    variant: str
    question: str
    score: float
    path_score: float
    """Mean score of the paths on their own, or of the chain, whatever the summary made of it."""
    tokens: int


@dataclass(frozen=True)
class Row:
    """One variant."""

    variant: str
    accuracy: Estimate
    """Of the summary's answer."""
    paths: Estimate
    """Of the paths' own answers."""
    tokens: float
    against_full: Comparison | None
    """Less the full model, paired by question; None for the full model."""


def table(trials: Sequence[Trial]) -> list[Row]:
    """A row for each variant, the full model first."""
    by_variant: dict[str, dict[str, list[Trial]]] = {}
    for trial in sorted(trials, key=lambda trial: trial.question):
        by_variant.setdefault(trial.variant, {}).setdefault(trial.question, []).append(trial)
    full = _scores(by_variant[FULL])
    names = [FULL, *(name for name in dict.fromkeys(t.variant for t in trials) if name != FULL)]
    return [
        Row(
            name,
            estimate(_scores(own)),
            estimate([[trial.path_score for trial in some] for some in own.values()]),
            statistics.fmean(trial.tokens for some in own.values() for trial in some),
            None if name == FULL else compare(_scores(own), full),
        )
        for name in names
        for own in [by_variant[name]]
    ]


def run(
    settings: EvalSettings,
    folder: Path,
    variants: Mapping[str, str] | None = None,
    data_only: str | None = None,
    watch: Watch = lambda *_: None,
) -> Findings:
    """Answer every question with the full model and with each variant of it.

    Args:
        settings: its one width is the number of paths.
        variants: other trained models by the names that the table gives them.
        data_only: a model that was trained on the same data as one chain. It thinks in one, so it
            is measured as one, with its summary, at the same total of tokens.

    Raises:
        UsageError: a variant that is no model, or has the name of another.
    """
    trained = dict(variants or {})
    identities = {name: _identity(name, model) for name, model in trained.items()}
    if data_only is not None:
        identities[DATA_ONLY] = _known(f"--data-only {data_only}", data_only)
    width = max(settings.paths)
    with opened(NAME, settings, folder, watch) as session:
        cases = session.cases(width)
        own = Parallel.of(session.lab)
        own.check(cases[0], session.lab)
        session.begin()
        trials: list[Trial] = []
        methods: dict[str, Parallel] = {FULL: own}
        left_out = []
        if settings.backend == "native":
            methods |= {FLAT: FlatPositions.of(session.lab), REPREFILL: Reprefill.of(session.lab)}
        else:
            left_out.append(
                f"Left out, {FLAT} and {REPREFILL}: the {settings.backend} backend sums up paths "
                "side by side only."
            )
        for name, method in methods.items():
            trials += _answers(session, session.lab, name, method, cases)
        if read_facts(resolve_model(settings.model)).thought_embedding_rows is None:
            left_out.append(f"Left out, {NO_THOUGHTS}: the model has none to take away.")
        else:
            without = f"{session.identity} without thought embeddings"
            with session.other_lab(settings.model, without, thought_embeddings=False) as lab:
                trials += _answers(session, lab, NO_THOUGHTS, own, cases)
        for name, model in trained.items():
            with session.other_lab(model, identities[name]) as lab:
                try:
                    Parallel.of(lab).check(cases[0], lab)
                except UsageError as error:
                    raise UsageError(f"--variant {name}: {error}") from None
                trials += _answers(session, lab, name, Parallel.of(lab), cases)
        if data_only is not None:
            with session.other_lab(data_only, identities[DATA_ONLY]) as lab:
                trials += _chains(session, lab, cases)
        options = {"variants": identities}
        return _findings(trials, left_out, options, session)


def _identity(name: str, model: str) -> str:
    if name in (FULL, DATA_ONLY, *TAKEN_AWAY):
        raise UsageError(f"--variant {name}: the table has a row of that name; choose another")
    return _known(f"--variant {name}={model}", model)


def _known(option: str, model: str) -> str:
    try:
        return model_identity(model)
    except CheckpointError as error:
        raise UsageError(f"{option}: {error}") from None


def _answers(
    session: Session, lab: Lab, variant: str, method: Parallel, cases: Sequence[Case]
) -> list[Trial]:
    async def answer(case: Case) -> Trial:
        paths, _ = await lab.paths(case)
        alone = [await lab.score(case.question, path.text) for path in paths]
        outcome = await method.answer(case, lab)
        return Trial(
            variant, case.question.id, outcome.score, statistics.fmean(alone), outcome.tokens
        )

    return session.each(variant, cases, answer)


def _chains(session: Session, lab: Lab, cases: Sequence[Case]) -> list[Trial]:
    method = Sequential(summary=True)
    try:
        method.check(cases[0], lab)
    except UsageError as error:
        raise UsageError(f"--data-only: {error}") from None

    async def answer(case: Case) -> Trial:
        outcome = await method.answer(case, lab)
        chain = (await lab.chain(case, method.chain_tokens(case, lab))).segments[0]
        alone = await lab.score(case.question, chain.text)
        return Trial(DATA_ONLY, case.question.id, outcome.score, alone, outcome.tokens)

    return session.each(DATA_ONLY, cases, answer)


def _findings(
    trials: Sequence[Trial],
    left_out: Sequence[str],
    options: Mapping[str, object],
    session: Session,
) -> Findings:
    order = {name: i for i, name in enumerate((FULL, *TAKEN_AWAY, DATA_ONLY))}
    rows = sorted(table(trials), key=lambda row: order.get(row.variant, len(order)))
    width, questions = max(session.settings.paths), rows[0].accuracy.questions
    notes = [
        *left_out,
        *session.remarks(session.settings.paths),
        f"The first {sum(row.variant in TAKEN_AWAY for row in rows)} ablations are taken away at "
        "inference only, from a model that was trained with them. That is harsher than training "
        "without: the model never had the chance to do with less.",
        "Flattened positions and re-prefill sum up the very paths of the full model, so their "
        "paths are as good. Re-prefill keeps the thought embeddings.",
        f"All at P = {width} × {session.settings.budget:,} tokens, summary included; differences "
        "are in points, paired by question, p by flipping their signs at random, two-sided.",
    ]
    if any(row.variant == DATA_ONLY for row in rows):
        notes.append(
            f'"{DATA_ONLY}" is a model trained on the same data with the paths as one chain: one '
            "chain and its summary, at the same total of tokens or what its context leaves."
        )
    else:
        notes.append(
            "Not measured: what the data alone are worth. That takes a model trained on them as "
            "one chain, by --data-only FOLDER."
        )

    def plot(axes: Axes) -> None:
        places = range(len(rows))
        for style, (shift, name) in enumerate(((-0.12, "summary"), (0.12, "paths on their own"))):
            colour, marker, _ = STYLES[style]
            found = [row.accuracy if style == 0 else row.paths for row in rows]
            axes.errorbar(
                [100 * one.mean for one in found],
                [place + shift for place in places],
                xerr=[error_bar(one) for one in found],
                fmt=marker,
                color=colour,
                label=name,
                capsize=2,
                markersize=5,
            )
        axes.set_yticks(list(places), [row.variant for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("accuracy, % ± standard error")

    return Findings(
        NAME,
        f"{session.subject}: what each part is worth, {questions} questions",
        ("variant", "right, %", "paths alone, %", "tokens", "less full", "p"),
        [
            (
                row.variant,
                percent(row.accuracy),
                percent(row.paths),
                count(row.tokens),
                ""
                if row.against_full is None
                else f"{points(row.against_full.difference)} {plus_minus(row.against_full.error)}",
                "" if row.against_full is None else p_value(row.against_full.p_flipped),
            )
            for row in rows
        ],
        notes,
        {"rows": [dataclasses.asdict(row) for row in rows]},
        plot,
        f"{session.subject}, {questions} questions",
        session.identity,
        session.settings,
        options,
        height=1.8 + 0.42 * len(rows),
    )


def _scores(by_question: Mapping[str, Sequence[Trial]]) -> list[list[float]]:
    return [[trial.score for trial in some] for some in by_question.values()]
