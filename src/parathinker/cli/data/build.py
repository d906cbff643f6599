"""``parathinker data build``: a teacher's samples become a dataset to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parathinker.cli.data.options import declare
from parathinker.cli.data.steps import showing_steps
from parathinker.cli.measuring import whole_numbers
from parathinker.data.build.settings import KEEP, PATH_TEXTS, SUMMARIES, BuildSettings

if TYPE_CHECKING:
    from parathinker.data.build.report import BuildReport

PATHS, SUMMARY, QUESTIONS, LENGTHS, CHECKING = (
    "Paths",
    "Summaries",
    "Questions",
    "Lengths",
    "Checking answers",
)
_DEFAULT = BuildSettings()


def build(
    samples: Annotated[
        list[Path],
        typer.Argument(
            metavar="SAMPLES...",
            help="Stores of samples, files of examples (.jsonl, .parquet), or built datasets.",
        ),
    ],
    output: Annotated[Path, declare(None, "The dataset's folder.", "--output", "-o")],
    paths: Annotated[int, declare(PATHS, "Paths of an example, at most.")] = _DEFAULT.paths,
    min_paths: Annotated[
        int, declare(PATHS, "Drop questions with fewer paths.")
    ] = _DEFAULT.min_paths,
    keep: Annotated[
        str,
        declare(
            PATHS,
            f"{', '.join(KEEP)}. Wrong paths are there to be read, not to be learned; "
            "all learns from everything, checked or not.",
        ),
    ] = _DEFAULT.keep,
    threshold: Annotated[
        float, declare(PATHS, "The score from which on a path is right.")
    ] = _DEFAULT.threshold,
    min_right: Annotated[
        int,
        declare(PATHS, "Right paths that an example needs; 0 takes unchecked questions too."),
    ] = _DEFAULT.min_right,
    wrong_share: Annotated[
        float | None, declare(PATHS, "Share of wrong paths to aim for.", show_default=False)
    ] = None,
    path_text: Annotated[
        str, declare(PATHS, f"{' or '.join(PATH_TEXTS)}: with what was said after thinking.")
    ] = _DEFAULT.path_text,
    unfinished: Annotated[
        bool,
        declare(PATHS, "Keep paths that did not come to their end, as wrong ones.", "--unfinished"),
    ] = False,
    similar_paths: Annotated[
        float, declare(PATHS, "Drop a path that is this similar to another; 1: equal ones only.")
    ] = _DEFAULT.similar_paths,
    near_duplicates: Annotated[
        bool,
        declare(
            PATHS,
            "Drop no path for being similar or equal to another: for a model's own paths.",
            "--near-duplicates",
        ),
    ] = False,
    thought_ids: Annotated[
        bool,
        declare(
            PATHS,
            "Keep the thought ids that paths were thought with (`data sample --engine`), where "
            "they decide the route; else training draws them.",
            "--thought-ids",
        ),
    ] = False,
    summary: Annotated[
        str, declare(SUMMARY, f"Where it comes from: {', '.join(SUMMARIES)}.")
    ] = _DEFAULT.summary,
    summary_template: Annotated[
        str, declare(SUMMARY, "Its text, with {answer}; for --summary template.")
    ] = _DEFAULT.summary_template,
    readings: Annotated[
        str,
        declare(
            SUMMARY,
            "As 1,2,4,8: write so many summaries, each reading so many paths drawn at random; "
            "by default one that reads them all.",
        ),
    ] = "",
    parts: Annotated[
        bool,
        declare(
            SUMMARY,
            "Of --readings, keep those whose paths hold each character of the answer at its place, "
            "though none may be right; with --min-right 0.",
            "--parts",
        ),
    ] = False,
    summaries: Annotated[
        Path | None,
        declare(
            SUMMARY,
            "For --summary teacher: the store of what it was asked with --summary-questions; "
            "without, what it said after its first right path.",
            show_default=False,
        ),
    ] = None,
    summary_questions: Annotated[
        Path | None,
        declare(
            SUMMARY,
            "Write what to ask a teacher for summaries of these paths, as JSONL for `data sample`.",
            show_default=False,
        ),
    ] = None,
    min_correct: Annotated[
        float, declare(QUESTIONS, "Drop questions of which a smaller share of samples is right.")
    ] = _DEFAULT.min_correct,
    max_correct: Annotated[
        float, declare(QUESTIONS, "Drop questions of which a larger share of samples is right.")
    ] = _DEFAULT.max_correct,
    similar_questions: Annotated[
        float, declare(QUESTIONS, "Drop a question that is this similar to an earlier one.")
    ] = _DEFAULT.similar_questions,
    ngram: Annotated[
        int, declare(QUESTIONS, "Drop those that share so many words in a row with a benchmark.")
    ] = _DEFAULT.ngram,
    benchmarks: Annotated[
        str, declare(QUESTIONS, 'Benchmarks to keep clear of; "" for none.')
    ] = ",".join(_DEFAULT.benchmarks),
    against: Annotated[
        list[Path] | None,
        declare(QUESTIONS, "Another file of questions to keep clear of; again for more."),
    ] = None,
    validation: Annotated[
        float, declare(QUESTIONS, "Share of questions kept from training.")
    ] = _DEFAULT.validation,
    tokenizer: Annotated[
        Path | None, declare(LENGTHS, "Folder of the tokenizer to count with.", show_default=False)
    ] = None,
    max_path_tokens: Annotated[
        int | None, declare(LENGTHS, "Drop longer paths.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        declare(LENGTHS, "Of a whole example; drops its longest paths.", show_default=False),
    ] = None,
    max_positions: Annotated[
        int | None,
        declare(
            LENGTHS, "Of a prompt, its longest path and the summary, likewise.", show_default=False
        ),
    ] = None,
    timeout_s: Annotated[
        float, declare(CHECKING, "Processor time for one answer, in seconds.")
    ] = _DEFAULT.timeout_s,
    workers: Annotated[
        int | None,
        declare(CHECKING, "Processes; by default one for each processor.", min=1),
    ] = None,
    scores: Annotated[
        Path | None,
        declare(CHECKING, "Folder for scores; by default beside the samples.", show_default=False),
    ] = None,
    force: Annotated[bool, declare(None, "Replace a dataset that is there.", "--force")] = False,
    as_json: Annotated[bool, declare(None, "Print what was done as JSON.", "--json")] = False,
) -> None:
    """Make a dataset: check answers, drop what is of no use, choose diverse paths, sum them up.

    What was found out about answers is kept beside the samples: a build that was killed goes on
    where it was, and one with other options checks nothing again.

    \b
    Examples:
      parathinker data build samples.sqlite -o dataset
      parathinker data build samples.sqlite -o dataset --keep right --max-correct 0.9
      parathinker data build a.sqlite b.sqlite -o dataset --paths 6 --wrong-share 0.33
      parathinker data build samples.sqlite -o dataset --tokenizer model --max-tokens 28672
      parathinker data build samples.sqlite -o dataset --summary-questions ask.jsonl
      parathinker data build samples.sqlite -o dataset --force \\
          --summary teacher --summaries answers.sqlite
    """
    from parathinker.data.build.pipeline import build as make

    settings = BuildSettings(
        paths=paths,
        min_paths=min_paths,
        keep=keep,
        threshold=threshold,
        min_right=min_right,
        min_correct=min_correct,
        max_correct=max_correct,
        wrong_share=wrong_share,
        path_text=path_text,
        unfinished=unfinished,
        similar_paths=similar_paths,
        near_duplicates=near_duplicates,
        thought_ids=thought_ids,
        parts=parts,
        readings=tuple(whole_numbers(readings, "--readings")) if readings else (),
        summary=summary,
        summary_template=summary_template,
        summaries=None if summaries is None else str(summaries),
        tokenizer=None if tokenizer is None else str(tokenizer),
        max_path_tokens=max_path_tokens,
        max_tokens=max_tokens,
        max_positions=max_positions,
        similar_questions=similar_questions,
        ngram=ngram,
        benchmarks=tuple(name.strip() for name in benchmarks.split(",") if name.strip()),
        against=tuple(map(str, against or ())),
        validation=validation,
        timeout_s=timeout_s,
    )
    with showing_steps() as progress:
        report = make(
            samples,
            output,
            settings,
            workers=workers,
            scores=scores,
            summary_questions=summary_questions,
            force=force,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps({**report.to_dict(), "checked": report.checked}, indent=1))
    else:
        _show(report, output)
        if summary_questions is not None:
            typer.echo(f"Wrote {summary_questions}, to be asked by: parathinker data sample")


def _show(report: BuildReport, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from parathinker.data.build.pipeline import DROPPED

    console = Console(highlight=False, markup=False, soft_wrap=True)
    steps = Table(title="What each step kept", title_justify="left")
    for column in ("step", "of"):
        steps.add_column(column)
    for column in ("came", "kept"):
        steps.add_column(column, justify="right")
    steps.add_column("dropped")
    for tally in report.tallies:
        reasons = "\n".join(f"{n:,} {why}" for why, n in tally.dropped.most_common())
        steps.add_row(tally.step, tally.unit, f"{tally.came:,}", f"{tally.kept:,}", reasons)
    console.print(steps)
    verdicts = ", ".join(f"{n:,} {what}" for what, n in report.verdicts.most_common())
    console.print(f"Samples: {verdicts or 'none'}; {report.checked:,} were checked just now.")
    for split, counts in sorted(report.splits.items()):
        console.print(
            f"{split}: {counts.examples:,} examples, {counts.paths:,} paths "
            f"({counts.right:,} right, {counts.wrong:,} wrong)"
        )
    console.print(f"Made {output}; look at it with: parathinker data inspect {output}")
    if report.dropped:
        console.print(f"{output / DROPPED} names every question that was dropped, and why.")
