"""``parathinker eval report``: one page, Markdown and figures of what runs found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

SUBFOLDER = "report"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Folders of runs; each gets a section.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where it goes. [default: report/ in the first run's folder]",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Questions of each benchmark whose answers can be read on the page; fewer where "
            "it would grow too large.",
        ),
    ] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Write a web page that works offline, the same in Markdown, and figures as PNG and SVG.

    A run that is not finished can be looked at, too.

    \b
    Examples:
      parathinker eval report runs/tiny
      parathinker eval report runs/short runs/long --output comparison
      parathinker eval report runs/tiny --json | jq .runs[0].rows
    """
    from rich.console import Console

    from parathinker.cli.measuring import bars
    from parathinker.evaluation.report import write_report

    with bars(Console(stderr=True)) as watch:
        written = write_report(runs, output or runs[0] / SUBFOLDER, answers, watch)
    if as_json:
        found = {
            "page": str(written.page),
            "markdown": str(written.markdown),
            "figures": [str(file) for file in written.figures],
            "runs": [finding.to_dict() for finding in written.findings],
        }
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
    else:
        typer.echo(f"Page: {written.page}")
        typer.echo(f"Markdown: {written.markdown}")
        typer.echo(f"Figures: {len(written.figures)} files in {written.page.parent / 'figures'}")
