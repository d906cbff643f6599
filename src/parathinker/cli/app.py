"""The commands, put together. PyTorch is imported inside the commands that need it only."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from parathinker import __version__
from parathinker.cli import INTERRUPTED
from parathinker.cli.ask import ask
from parathinker.cli.bench import bench
from parathinker.cli.chat import chat
from parathinker.cli.data import data
from parathinker.cli.diagnose import diagnose
from parathinker.cli.doctor import doctor
from parathinker.cli.eval import evaluate
from parathinker.cli.models import models
from parathinker.cli.serve import serve
from parathinker.cli.train import train


class Commands(TyperGroup):
    """Turns Ctrl-C into its exit code here: Typer's versions differ in what they make of it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


app = typer.Typer(
    name="parathinker",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"parathinker {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Native parallel thinking: think along many paths at once, answer from all of them.

    \b
    Example:
      parathinker ask "What is 48 * 76?" --paths 8
    """


app.command("ask")(ask)
app.command("chat")(chat)
app.command("serve")(serve)
app.add_typer(models, name="models")
app.add_typer(data, name="data")
app.command("train")(train)
app.add_typer(evaluate, name="eval")
app.add_typer(diagnose, name="diagnose")
app.command("bench")(bench)
app.command("doctor")(doctor)
