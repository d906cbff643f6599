"""``parathinker data build``: a teacher's samples become a dataset to train on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parathinker.data.build.settings import KEEP, PATH_TEXTS, SUMMARIES, BuildSettings

if TYPE_CHECKING:
    from parathinker.data.build.report import BuildReport
    from parathinker.data.build.verify import Progress

PATHS, SUMMARY, QUESTIONS, LENGTHS, CHECKING = (
    "Paths",
    "Summaries",
    "Questions",
    "Lengths",
    "Checking answers",
)
_DEFAULT = BuildSettings()


def _option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def build(
    samples: Annotated[
        list[Path],
        typer.Argument(
            metavar="SAMPLES...",
            help="Stores of samples, files of examples (.jsonl, .parquet), or built datasets.",
        ),
    ],
    output: Annotated[Path, _option(None, "The dataset's folder.", "--output", "-o")],
    paths: Annotated[int, _option(PATHS, "Paths of an example, at most.")] = _DEFAULT.paths,
    min_paths: Annotated[
        int, _option(PATHS, "Drop questions with fewer paths.")
    ] = _DEFAULT.min_paths,
    keep: Annotated[
        str,
        _option(
            PATHS,
            f"{', '.join(KEEP)}. Wrong paths are there to be read, not to be learned; "
            "all learns from everything, checked or not.",
        ),
    ] = _DEFAULT.keep,
    threshold: Annotated[
        float, _option(PATHS, "The score from which on a path is right.")
    ] = _DEFAULT.threshold,
    min_right: Annotated[
        int,
        _option(PATHS, "Right paths that an example needs; 0 takes unchecked questions too."),
    ] = _DEFAULT.min_right,
    wrong_share: Annotated[
        float | None, _option(PATHS, "Share of wrong paths to aim for.", show_default=False)
    ] = None,
    path_text: Annotated[
        str, _option(PATHS, f"{' or '.join(PATH_TEXTS)}: with what was said after thinking.")
    ] = _DEFAULT.path_text,
    unfinished: Annotated[
        bool,
        _option(PATHS, "Keep paths that did not come to their end, as wrong ones.", "--unfinished"),
    ] = False,
    similar_paths: Annotated[
        float, _option(PATHS, "Drop a path that is this similar to another; 1: equal ones only.")
    ] = _DEFAULT.similar_paths,
    summary: Annotated[
        str, _option(SUMMARY, f"Where it comes from: {', '.join(SUMMARIES)}.")
    ] = _DEFAULT.summary,
    summary_template: Annotated[
        str, _option(SUMMARY, "Its text, with {answer}; for --summary template.")
    ] = _DEFAULT.summary_template,
    min_correct: Annotated[
        float, _option(QUESTIONS, "Drop questions of which a smaller share of samples is right.")
    ] = _DEFAULT.min_correct,
    max_correct: Annotated[
        float, _option(QUESTIONS, "Drop questions of which a larger share of samples is right.")
    ] = _DEFAULT.max_correct,
    similar_questions: Annotated[
        float, _option(QUESTIONS, "Drop a question that is this similar to an earlier one.")
    ] = _DEFAULT.similar_questions,
    ngram: Annotated[
        int, _option(QUESTIONS, "Drop those that share so many words in a row with a benchmark.")
    ] = _DEFAULT.ngram,
    benchmarks: Annotated[
        str, _option(QUESTIONS, 'Benchmarks to keep clear of; "" for none.')
    ] = ",".join(_DEFAULT.benchmarks),
    against: Annotated[
        list[Path] | None,
        _option(QUESTIONS, "Another file of questions to keep clear of; again for more."),
    ] = None,
    validation: Annotated[
        float, _option(QUESTIONS, "Share of questions kept from training.")
    ] = _DEFAULT.validation,
    tokenizer: Annotated[
        Path | None, _option(LENGTHS, "Folder of the tokenizer to count with.", show_default=False)
    ] = None,
    max_path_tokens: Annotated[
        int | None, _option(LENGTHS, "Drop longer paths.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        _option(LENGTHS, "Of a whole example; drops its longest paths.", show_default=False),
    ] = None,
    max_positions: Annotated[
        int | None,
        _option(
            LENGTHS, "Of a prompt, its longest path and the summary, likewise.", show_default=False
        ),
    ] = None,
    timeout_s: Annotated[
        float, _option(CHECKING, "Processor time for one answer, in seconds.")
    ] = _DEFAULT.timeout_s,
    workers: Annotated[
        int | None,
        _option(CHECKING, "Processes; by default one for each processor.", min=1),
    ] = None,
    scores: Annotated[
        Path | None,
        _option(CHECKING, "Folder for scores; by default beside the samples.", show_default=False),
    ] = None,
    force: Annotated[bool, _option(None, "Replace a dataset that is there.", "--force")] = False,
    as_json: Annotated[bool, _option(None, "Print what was done as JSON.", "--json")] = False,
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
        summary=summary,
        summary_template=summary_template,
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
    with _progress() as progress:
        report = make(
            samples,
            output,
            settings,
            workers=workers,
            scores=scores,
            force=force,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps({**report.to_dict(), "checked": report.checked}, indent=1))
    else:
        _show(report, output)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on standard error, one for each long step."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done)

        yield show


def _show(report: BuildReport, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
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
