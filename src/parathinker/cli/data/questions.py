"""``parathinker data questions``: named sources become one file of questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parathinker.cli.data.options import declare
from parathinker.errors import UsageError

if TYPE_CHECKING:
    from parathinker.data.build.decontaminate import Decontaminator
    from parathinker.data.sources import Gathered, Tally

FILTERS, COLUMNS, TASKS = "What to keep", "Where it is", "reasoning-gym"
WATCHED_ROWS = 100
"""The progress line says how far it is every so many rows."""


def questions(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="openr1, deepmath, s1k, s1k-1.1, limo; a hub id; a .jsonl, .json, .csv or "
            ".parquet file; a folder laid out as on the hub; reasoning-gym:TASK.",
        ),
    ],
    output: Annotated[
        Path | None, declare(None, "The file of questions to write.", "--output", "-o")
    ] = None,
    with_samples: Annotated[
        Path | None,
        declare(None, "Put what the sources hold of teachers into this store of samples."),
    ] = None,
    force: Annotated[bool, declare(None, "Replace what is there.", "--force")] = False,
    as_json: Annotated[bool, declare(None, "Print the counts as JSON.", "--json")] = False,
    limit: Annotated[
        int | None,
        declare(FILTERS, "Questions of each source: the first, or random ones with --seed.", min=1),
    ] = None,
    seed: Annotated[
        int | None,
        declare(
            FILTERS, "Shuffle, which takes reading it all; also of reasoning-gym's draws.", min=0
        ),
    ] = None,
    min_difficulty: Annotated[
        float | None, declare(FILTERS, "Leave out easier ones, where difficulty is known.")
    ] = None,
    require_answer: Annotated[
        bool, declare(FILTERS, "Leave out those without an answer.", "--require-answer")
    ] = False,
    clear_of_benchmarks: Annotated[
        bool,
        declare(
            FILTERS,
            "Leave out questions of AIME, AMC and MATH-500, as `data build` does, before a teacher "
            "is asked about them.",
            "--clear-of-benchmarks",
        ),
    ] = False,
    split: Annotated[str, declare(COLUMNS, "Of folders and the hub.")] = "train",
    subset: Annotated[str | None, declare(COLUMNS, "The configuration on the hub.")] = None,
    layout: Annotated[
        str | None,
        declare(COLUMNS, "openr1, deepmath, s1k, s1k-1.1, limo, generic; told by the columns."),
    ] = None,
    question_column: Annotated[str | None, declare(COLUMNS, "Where the question is.")] = None,
    answer_column: Annotated[str | None, declare(COLUMNS, "Where the answer is.")] = None,
    samples_column: Annotated[
        str | None, declare(COLUMNS, "Where teachers' texts are, one or a list.")
    ] = None,
    size: Annotated[int, declare(TASKS, "Problems to draw.", min=1)] = 1000,
    option: Annotated[
        list[str] | None,
        declare(TASKS, "Of a task, as min_digits=3 or chain_sum.min_digits=3; again for more."),
    ] = None,
) -> None:
    """Collect questions and their reference answers, no question twice.

    Sources are read in their order; what they are is told by their columns. --with-samples takes
    over what OpenR1, DeepMath and s1K hold of teachers, ready for `data build`.

    \b
    Examples:
      parathinker data questions openr1 --limit 1000 --require-answer -o questions.jsonl
      parathinker data questions deepmath --min-difficulty 6 --seed 1 --limit 500 -o hard.jsonl
      parathinker data questions my.csv --question-column task --answer-column key -o q.jsonl
      parathinker data questions reasoning-gym:gsm_symbolic=2,chain_sum --size 500 -o gym.jsonl
      parathinker data questions s1k-1.1 --with-samples s1k.sqlite
    """
    from parathinker.data.schema import write_questions
    from parathinker.data.sources import SourceOptions, gather

    _check_outputs(output, with_samples, force)
    options = SourceOptions(
        layout=layout,
        question_column=question_column,
        answer_column=answer_column,
        samples_column=samples_column,
        subset=subset,
        split=split,
        require_answer=require_answer,
        min_difficulty=min_difficulty,
        clear_of=_benchmarks() if clear_of_benchmarks else None,
        limit=limit,
        seed=seed,
        size=size,
        task_options=dict(_pair(text) for text in option or []),
    )
    samples = None
    with _progress() as watch:
        if with_samples is None:
            gathered = gather(sources, options, watch)
        else:
            from parathinker.data.sources.published import gather_samples

            gathered, samples = gather_samples(sources, options, with_samples, watch)
    if not gathered.questions:
        raise UsageError(f"no question is left: {_why(gathered.tallies)}")
    if output is not None:
        write_questions(output, gathered.questions)
    _report(gathered, output, with_samples, samples, as_json)


def _benchmarks() -> Decontaminator:
    from parathinker.benchmarks import BENCHMARKS
    from parathinker.data.build.decontaminate import Decontaminator, read_benchmarks

    return Decontaminator(read_benchmarks(BENCHMARKS, ()))


def _check_outputs(output: Path | None, store: Path | None, force: bool) -> None:
    if output is None and store is None:
        raise UsageError("say where to write: --output FILE.jsonl, --with-samples STORE, or both")
    if output is not None and output.suffix != ".jsonl":
        raise UsageError(f"questions are written as JSONL: {output} should end in .jsonl")
    for path in (output, store):
        if path is not None and path.is_dir():
            raise UsageError(f"{path} is a folder; name a file")
        if path is not None and path.exists() and not force:
            raise UsageError(f"{path} is there already; --force replaces it")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--option should be NAME=VALUE, got {text!r}")
    return name, value


@contextmanager
def _progress() -> Iterator[Any]:
    """A line on the terminal that says how many rows were read."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        line = bar.add_task("Opening")
        shown = ("", 0)

        def watch(tally: Tally) -> None:
            nonlocal shown
            now = (tally.source, tally.rows // WATCHED_ROWS)
            if now != shown:
                shown = now
                bar.update(line, description=f"{tally.source}: {tally.rows:,} rows")

        yield watch


def _why(tallies: list[Tally]) -> str:
    """What became of the rows, in words."""
    parts = []
    for tally in tallies:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.most_common())
        parts.append(f"{tally.source} has {tally.rows} rows" + (f" ({reasons})" if reasons else ""))
    return "; ".join(parts)


def _report(
    gathered: Gathered,
    output: Path | None,
    store: Path | None,
    samples: int | None,
    as_json: bool,
) -> None:
    answered = sum(question.answer is not None for question in gathered.questions)
    if as_json:
        report = {
            "questions": len(gathered.questions),
            "with_answer": answered,
            "samples": samples,
            "output": None if output is None else str(output),
            "store": None if store is None else str(store),
            "sources": [vars(tally) for tally in gathered.tallies],
        }
        typer.echo(json.dumps(report, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("source", "layout", "rows", "kept", "dropped"):
        table.add_column(column, justify="right" if column in ("rows", "kept") else "left")
    for tally in gathered.tallies:
        dropped = "\n".join(f"{count:,} {reason}" for reason, count in tally.dropped.most_common())
        table.add_row(tally.source, tally.layout, f"{tally.rows:,}", f"{tally.kept:,}", dropped)
    console = Console(highlight=False)
    console.print(table)
    counts = f"{len(gathered.questions):,} questions, {answered:,} with a reference answer"
    if output is not None:
        console.print(f"{output}: {counts}", soft_wrap=True)
    if store is not None:
        console.print(f"{store}: {samples:,} samples", soft_wrap=True)
