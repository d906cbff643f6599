"""``parathinker data``: from sources to a dataset that can be trained on, a file a step."""

from __future__ import annotations

import typer

from parathinker.cli.data import build, look, questions, sample

data = typer.Typer(name="data", no_args_is_help=True)


@data.callback()
def about() -> None:
    """Make training data: questions, what a teacher thinks about them, examples.

    \b
    Example:
      parathinker data questions openr1 --limit 1000 -o q.jsonl
      parathinker data sample q.jsonl --endpoint URL --model M -o samples.sqlite
      parathinker data build samples.sqlite -o dataset
    """


data.command("questions")(questions.questions)
data.command("sample")(sample.sample)
data.command("merge")(sample.merge)
data.command("build")(build.build)
data.command("inspect")(look.inspect)
data.command("stats")(look.stats)
