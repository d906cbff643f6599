"""What the commands that measure answers have in common: options, and a bar while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parathinker.evaluation.names import NAMES

if TYPE_CHECKING:
    from rich.console import Console


def option(text: str, *names: str, **more: Any) -> Any:
    """An option whose default its help text tells."""
    return typer.Option(*names, help=text, show_default=False, **more)


BENCHMARKS = f"{', '.join(NAMES)}, reasoning-gym:TASK, a file, a folder, or a hub id"
"""What ``--benchmark`` takes."""
Model = Annotated[
    str | None, option("An embedded model's name, a folder, or a hub id. [default: tiny]")
]
Budget = Annotated[int | None, option("Tokens for each path of the width. [default: 16384]")]
SummaryTokens = Annotated[
    int | None, option("Of a budget, what is set aside for the summary. [default: 512]")
]
Samples = Annotated[
    int | None, option("Answers to each question, with different seeds. [default: 1]")
]
Limit = Annotated[int | None, option("Questions of each benchmark. [default: all, or 500]")]
Temperature = Annotated[float | None, option("Of all sampling. [default: the model's own]")]
TopP = Annotated[float | None, option("Of all sampling. [default: 1]")]
Seed = Annotated[int | None, option("Of sampling, and of problems drawn. [default: 0]")]
Prompt = Annotated[
    str | None, option("What is asked, {question} in it. [default: the benchmark's own]")
]
TaskOption = Annotated[
    list[str] | None,
    option("Of reasoning-gym's tasks, as NAME=VALUE; may be given again.", metavar="NAME=VALUE"),
]
Split = Annotated[
    str | None, option("Of a benchmark that is a folder or on the hub. [default: train]")
]
Subset = Annotated[str | None, option("The configuration, of the same.")]
Weights = Annotated[str | None, option("auto, float32 or int8. [default: auto]")]
Device = Annotated[str | None, option("auto, cpu, cuda or mps. [default: auto]")]
Backend = Annotated[str | None, option("Engine: native or vllm. [default: native]")]
EngineArg = Annotated[
    list[str] | None, option("vLLM's own argument, as tensor_parallel_size=2; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]


def named(values: Sequence[str], option_name: str) -> dict[str, str]:
    """NAME=VALUE pairs of an option that was given again and again.

    Raises:
        UsageError: one is no such pair, or a name comes twice.
    """
    from parathinker.errors import UsageError

    found: dict[str, str] = {}
    for one in values:
        name, equals, value = one.partition("=")
        if not (equals and name and value):
            raise UsageError(f"{option_name} should be NAME=VALUE; got {one!r}")
        if name in found:
            raise UsageError(f"{option_name} has {name!r} twice")
        found[name] = value
    return found


def whole_numbers(text: str, option_name: str) -> list[int]:
    """Numbers with commas between.

    Raises:
        UsageError: one is no whole number.
    """
    from parathinker.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option_name} should be numbers with commas between; got {text!r}"
        ) from None


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is being done, with the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield watch
