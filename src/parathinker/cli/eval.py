"""``parathinker eval``: the table of a model's accuracy, single path to parallel thinking."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from parathinker.data.products import DIGITS

if TYPE_CHECKING:
    from parathinker.evaluation.table import Table


def evaluate(
    model: Annotated[
        str, typer.Argument(help="An embedded model's name, a folder, or a hub id.")
    ] = "tiny",
    questions: Annotated[int, typer.Option(min=2, help="How many held-out problems.")] = 300,
    paths: Annotated[
        str, typer.Option(help="Numbers of paths to measure, comma-separated.")
    ] = "1,2,4,8",
    digits: Annotated[int, typer.Option(min=1, max=DIGITS, help="Digits of the factors.")] = DIGITS,
    temperature: Annotated[
        float | None, typer.Option(help="Of the paths; by default the model's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Measure a model on held-out problems of its task, with standard errors.

    Example: parathinker eval tiny --questions 300 --paths 1,2,4,8
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from parathinker import ParaThinker
    from parathinker.errors import UsageError
    from parathinker.evaluation.table import measure

    try:
        counts = [int(count) for count in paths.split(",")]
    except ValueError:
        raise UsageError(f"--paths should be numbers with commas between, got {paths!r}") from None
    loaded = ParaThinker.from_pretrained(model)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        table = measure(loaded, questions, counts, digits, temperature, seed, progress)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(table), indent=1))
    else:
        _show(table, model)


def _show(table: Table, model: str) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    rich = RichTable(
        title=f"{model}: products of {table.digits}-digit numbers, n = {table.questions}, "
        f"temperature {table.temperature:g}, accuracy in % ± standard error"
    )
    for column in ("method", "paths", "accuracy", "tokens"):
        rich.add_column(column, justify="left" if column == "method" else "right")
    for score in table.scores:
        rich.add_row(
            score.method,
            str(score.paths),
            f"{score.accuracy:.1f} ± {score.standard_error:.1f}",
            f"{score.tokens:.0f}",
        )
    console.print(rich)
    for paths, (gain, error) in table.gains.items():
        console.print(
            f"parallel − majority at {paths} paths: {gain:+.1f} ± {error:.1f} points (paired)"
        )
