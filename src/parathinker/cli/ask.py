"""``parathinker ask``: one question, thought through before the user's eyes."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from parathinker.answer import Answer, Done, StreamEvent
from parathinker.cli.live import LiveView
from parathinker.cli.outcome import closing_line, printable
from parathinker.cli.plain import plain_text
from parathinker.data.tasks import ExampleProblem, judge, read_example_problems
from parathinker.errors import UsageError
from parathinker.modeling.folders import resolve_model
from parathinker.params import TERMINATIONS, ThinkingParams

if TYPE_CHECKING:
    from parathinker.parathinker import ParaThinker

MODEL, SAMPLING, LIMITS, OUTPUT = "Model", "Sampling", "Limits", "Output"


def ask(
    question: Annotated[
        str | None,
        typer.Argument(help="What to think about; - or nothing reads standard input."),
    ] = None,
    paths: Annotated[int, typer.Option(help="Paths that think side by side.")] = 8,
    example: Annotated[
        bool, typer.Option("--example", help="Take a held-out problem that comes with the model.")
    ] = False,
    example_number: Annotated[
        int | None, typer.Option(help="Take this one of them, from 1.", show_default=False)
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="The right answer, to check against.", show_default=False)
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="An embedded model's name, a folder, or a hub id.", rich_help_panel=MODEL
        ),
    ] = "tiny",
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=MODEL)
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16.", rich_help_panel=MODEL)
    ] = "auto",
    termination: Annotated[
        str,
        typer.Option(help=f"When to sum up: {', '.join(TERMINATIONS)}.", rich_help_panel=LIMITS),
    ] = TERMINATIONS[0],
    max_path_tokens: Annotated[
        int | None, typer.Option(help="Tokens a path may have.", rich_help_panel=LIMITS)
    ] = None,
    max_summary_tokens: Annotated[
        int | None, typer.Option(help="Tokens the summary may have.", rich_help_panel=LIMITS)
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="Tokens all paths together may have.", rich_help_panel=LIMITS),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="Text that ends a path or the summary; may be given again.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the paths; 0 is greedy; by default the model's own.", rich_help_panel=SAMPLING
        ),
    ] = None,
    summary_temperature: Annotated[
        float | None, typer.Option(help="Of the summary.", rich_help_panel=SAMPLING)
    ] = None,
    top_p: Annotated[
        float,
        typer.Option(
            help="Sample from the likeliest tokens of this probability.", rich_help_panel=SAMPLING
        ),
    ] = 1.0,
    top_k: Annotated[
        int,
        typer.Option(
            help="Sample from so many likeliest tokens; 0: all.", rich_help_panel=SAMPLING
        ),
    ] = 0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Leave out tokens below this share of the likeliest.", rich_help_panel=SAMPLING
        ),
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same answer.", rich_help_panel=SAMPLING)
    ] = None,
    summary_prefix: Annotated[
        str | None,
        typer.Option(help="Text that the summary begins with.", rich_help_panel=SAMPLING),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the whole answer as JSON.", rich_help_panel=OUTPUT),
    ] = False,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Ordinary text, no live view; also when the output is no terminal.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Think about a question along many paths at once and answer from all of them.

    \b
    Examples:
      parathinker ask "What is 48213 * 7689?" --paths 8
      parathinker ask --example --termination last-finish
      echo "48213 * 7689" | parathinker ask --json
    """
    # All that can be wrong without the model is found before PyTorch is imported.
    params = ThinkingParams(
        paths=paths,
        max_path_tokens=max_path_tokens,
        max_summary_tokens=max_summary_tokens,
        termination=termination,
        temperature=temperature,
        summary_temperature=summary_temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        logprobs=as_json,
        stop=tuple(stop or ()),
        summary_prefix=summary_prefix,
        budget=budget,
    )
    if example or example_number is not None:
        if question is not None:
            raise UsageError("give a question or --example, not both")
        folder = resolve_model(model)
        problem = _choose(read_example_problems(folder), example_number, seed)
        question, answer = problem.question, problem.answer if answer is None else answer
    else:
        question = _read_question(question)
        folder = resolve_model(model)

    console = Console(highlight=False)
    if as_json:
        thinker = _load(folder, device, dtype)
        result = thinker.think(question, params)
        verdict = judge(thinker.task, question, result.text, answer)
        typer.echo(json.dumps({**result.to_dict(), "correct": verdict.correct}))
    elif plain or not sys.stdout.isatty() or console.is_dumb_terminal:
        thinker = _load(folder, device, dtype)
        events = thinker.stream(question, params)
        typer.echo(f"{printable(question)}\n")
        result = _last(events)
        typer.echo(plain_text(result, judge(thinker.task, question, result.text, answer)))
    else:
        with console.status("Loading the model …"):
            thinker = _load(folder, device, dtype)
        result = LiveView(console, question, paths).follow(thinker.stream(question, params))
        verdict = judge(thinker.task, question, result.text, answer)
        colour = {True: "bold green", False: "bold red", None: ""}[verdict.correct]
        console.print(Text(closing_line(result, verdict), style=colour))


def _read_question(question: str | None) -> str:
    """The question of the command line, or of standard input.

    Raises:
        UsageError: there is none, or it is no text.
    """
    if question is None and sys.stdin.isatty():
        raise UsageError(
            'no question: give one, as in parathinker ask "What is 48213 * 7689?", pipe one in, '
            "or try --example"
        )
    if question is None or question == "-":
        question = sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape").strip()
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the question is not valid UTF-8 text: {error.reason}") from error
    if not question.strip():
        raise UsageError("the question is empty")
    return question


def _choose(problems: list[ExampleProblem], number: int | None, seed: int | None) -> ExampleProblem:
    if number is None:
        return random.Random(seed).choice(problems)
    if not 1 <= number <= len(problems):
        raise UsageError(
            f"example-number should be from 1 to {len(problems)} for this model; got {number}"
        )
    return problems[number - 1]


def _last(events: Iterator[StreamEvent]) -> Answer:
    """The answer that a stream ends with."""
    return next(event.answer for event in events if isinstance(event, Done))


def _load(folder: Path, device: str, dtype: str) -> ParaThinker:
    from parathinker import ParaThinker

    return ParaThinker.from_pretrained(folder, device=device, dtype=dtype)
