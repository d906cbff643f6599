"""``parathinker doctor``: what of this environment works, what is missing, and how to get it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from parathinker.cli.checkup import Check

_MARKS = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "broken": ("✗", "bold red")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the environment: Python, PyTorch, devices, extras, embedded models, terminal.

    Exits with 1 only if something that thinking itself needs is broken.

    \b
    Example:
      parathinker doctor
    """
    from parathinker.cli.checkup import BROKEN, run_checks

    console = Console(highlight=False)
    checks = run_checks(console)
    works = all(check.status != BROKEN for check in checks)
    if as_json:
        document = {"ok": works, "checks": [dataclasses.asdict(check) for check in checks]}
        typer.echo(json.dumps(document, indent=1))
    else:
        console.print(_table(checks))
        console.print("Ready to think." if works else "Something that thinking needs is broken.")
    if not works:
        raise typer.Exit(1)


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, show_header=False)
    for check in checks:
        mark, style = _MARKS[check.status]
        said = Text(check.detail)
        if check.fix:
            said.append(f"\n{check.fix}", style="bold")
        table.add_row(Text(mark, style=style), check.name, said)
    return table
