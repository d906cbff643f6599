"""``parathinker bench``: how fast the engine is here, and how far from the machine's limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from parathinker.cli import options as o

if TYPE_CHECKING:
    from parathinker.bench.figures import Section

_SECTIONS = "machine, steps, job, summary, long, throughput, start, precision, adaptive"
_COLOURS = {"met": "green", "not met": "red"}


def bench(
    model: o.Model = "tiny",
    paths: Annotated[
        str | None,
        typer.Option(
            help="Numbers of paths, comma-separated; by default 1,4,8,16 as far as the model goes."
        ),
    ] = None,
    weights: o.Weights = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Of each measurement; by default 5, quick 2.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION", help=f"Measure this section: {_SECTIONS}. Repeatable."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short paths, few repeats: a fast look.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.md, report.json and plots.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure the engine on this machine, against what the machine can do at best.

    Shows medians, and how far the measurements lie from them at most.
    Numbers of paths are measured in turn, again and again, so that what
    else the machine does falls on all of them alike.

    \b
    Examples:
      parathinker bench --quick
      parathinker bench --model FOLDER --only steps --only job --output runs/bench
    """
    from parathinker.bench.report import check_folder, document, headline, write_report
    from parathinker.bench.setting import Bench, BenchOptions
    from parathinker.bench.suite import chosen, run

    asked = tuple(only or ())
    chosen(asked)
    options = BenchOptions(model, _numbers(paths), weights, device, threads, repeats, asked, quick)
    errors = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=errors, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, visible=done < total)

        measured = Bench(options, progress)
        if output is not None:
            check_folder(output)

        def section_done(sections: list[Section]) -> None:
            last = sections[-1]
            state = f"left out: {last.left_out}" if last.left_out else f"{last.seconds:.0f} s"
            if output is not None:
                write_report(measured, sections, output)
            errors.print(f"{last.name}: {state}", markup=False)

        sections = run(measured, section_done)
    found = document(measured, sections)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _show(headline(found), sections)
    if output is not None:
        errors.print(f"Report: {output / 'report.md'}", markup=False, soft_wrap=True)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from parathinker.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--paths should be numbers with commas between, got {text!r}") from None


def _show(headline: str, sections: Sequence[Section]) -> None:
    from parathinker.bench.figures import shown_table
    from parathinker.bench.report import TARGET_HEADINGS, target_notes, target_rows

    console = Console(highlight=False)
    console.print(headline, markup=False)
    for section in sections:
        console.print()
        if section.left_out:
            console.print(f"{section.title}: left out: {section.left_out}", markup=False)
        else:
            console.print(_table(section.title, *shown_table(section, brief=True)))
        for note in section.notes:
            console.print(f"· {note}", markup=False, style="dim")
    targets = target_rows(sections)
    if targets:
        console.print()
        console.print(_table("Targets", TARGET_HEADINGS, targets))
        for note in target_notes(sections):
            console.print(f"· {note}", markup=False, style="dim")


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if i and rows else "left")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    return table
