"""``parathinker ask``: a question and its follow-ups, thought through before the user's eyes."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from parathinker.answer import Answer, Done
from parathinker.backends.arguments import read_arguments
from parathinker.cli import options as o
from parathinker.cli.live import LiveView
from parathinker.cli.measuring import whole_numbers
from parathinker.cli.outcome import closing_line, printable
from parathinker.cli.plain import plain_text
from parathinker.data.tasks import ExampleProblem, Verdict, judge, read_example_problems
from parathinker.errors import UsageError
from parathinker.modeling.folders import resolve_model
from parathinker.params import ThinkingParams

if TYPE_CHECKING:
    from parathinker.parathinker import ParaThinker


def ask(
    question: o.Question = None,
    paths: o.Paths = "8",
    then: o.Then = None,
    example: o.Example = False,
    example_number: o.ExampleNumber = None,
    answer: o.Reference = None,
    termination: o.Termination = None,
    rounds: o.Rounds = 1,
    max_paths: o.MaxPaths = None,
    thought_ids: o.ThoughtIds = None,
    path_prefix: o.PathPrefix = None,
    summary_prefix: o.SummaryPrefix = None,
    continuation: o.Continuation = None,
    max_path_tokens: o.MaxPathTokens = None,
    min_path_tokens: o.MinPathTokens = 0,
    max_summary_tokens: o.MaxSummaryTokens = None,
    min_summary_tokens: o.MinSummaryTokens = 0,
    budget: o.Budget = None,
    stop: o.Stop = None,
    stop_token_id: o.StopTokenId = None,
    temperature: o.Temperature = None,
    summary_temperature: o.SummaryTemperature = None,
    top_p: o.TopP = 1.0,
    top_k: o.TopK = 0,
    min_p: o.MinP = 0.0,
    repetition_penalty: o.RepetitionPenalty = 1.0,
    frequency_penalty: o.FrequencyPenalty = 0.0,
    presence_penalty: o.PresencePenalty = 0.0,
    seed: o.Seed = None,
    model: o.Model = "tiny",
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    weights: o.Weights = "auto",
    kv_cache_memory: o.KVCacheMemory = None,
    threads: o.Threads = None,
    backend: o.Backend = "native",
    engine_arg: o.EngineArg = None,
    as_json: o.Json = False,
    plain: o.Plain = False,
) -> None:
    """Think about a question along many paths at once and answer from all of them.

    \b
    Examples:
      parathinker ask "What is 48 * 76?" --paths 8
      parathinker ask --example --paths auto --termination last-finish
      parathinker ask "What is 12 * 34?" --then "What is 56 * 78?"
      echo "48 * 76" | parathinker ask --json
    """
    # All that can be wrong without the model is found before PyTorch is imported.
    params = ThinkingParams(
        paths=o.read_paths(paths),
        max_paths=max_paths,
        thought_ids=tuple(whole_numbers(thought_ids, "--thought-ids")) if thought_ids else None,
        max_path_tokens=max_path_tokens,
        max_summary_tokens=max_summary_tokens,
        min_path_tokens=min_path_tokens,
        min_summary_tokens=min_summary_tokens,
        continuation=continuation,
        termination=termination,
        rounds=rounds,
        temperature=temperature,
        summary_temperature=summary_temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        seed=seed,
        logprobs=as_json,
        stop=tuple(stop or ()),
        stop_token_ids=tuple(stop_token_id or ()),
        path_prefix=o.read_path_prefixes(path_prefix),
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
    follow_ups = [_checked(text, "a follow-up question") for text in then or ()]

    console = Console(highlight=False)
    live = not (as_json or plain or not sys.stdout.isatty() or console.is_dumb_terminal)
    with console.status("Loading the model …") if live else nullcontext():
        from parathinker.parathinker import ParaThinker

        thinker = ParaThinker.from_pretrained(
            folder,
            device,
            dtype,
            weights=weights,
            kv_cache_memory=kv_cache_memory,
            threads=threads,
            backend=backend,
            **read_arguments(engine_arg),
        )
    turns = [_Turn(thinker, question, params, answer)]
    turns += [_Turn(thinker, text, params, None) for text in follow_ups]
    if as_json:
        _think_through(turns, _print_json)
    elif live:
        _think_through(turns, lambda turn, after: _show_live(turn, after, console))
    else:
        _think_through(turns, _print_plain)


@dataclass(frozen=True)
class _Turn:
    """A question that is to be thought about."""

    thinker: ParaThinker
    question: str
    params: ThinkingParams
    reference: str | None
    """The right answer, if the user gave it."""

    def verdict(self, answer: Answer) -> Verdict:
        return judge(self.thinker.task, self.question, answer.text, self.reference)


def _think_through(turns: Sequence[_Turn], show: Callable[[_Turn, Answer | None], Answer]) -> None:
    """One turn behind the other, each on top of what was said before."""
    answer: Answer | None = None
    for turn in turns:
        answer = show(turn, answer)


def _print_json(turn: _Turn, after: Answer | None) -> Answer:
    answer = turn.thinker.think(turn.question, turn.params, after=after)
    document = {"question": turn.question, **answer.to_dict()}
    typer.echo(json.dumps({**document, "correct": turn.verdict(answer).correct}))
    return answer


def _print_plain(turn: _Turn, after: Answer | None) -> Answer:
    events = turn.thinker.stream(turn.question, turn.params, after=after)
    space = "\n" if after else ""
    typer.echo(f"{space}{printable(turn.question)}\n")
    answer = next(event.answer for event in events if isinstance(event, Done))
    typer.echo(plain_text(answer, turn.verdict(answer)))
    return answer


def _show_live(turn: _Turn, after: Answer | None, console: Console) -> Answer:
    if after:
        console.print()
    view = LiveView(console, turn.question, turn.params)
    answer = view.follow(turn.thinker.stream(turn.question, turn.params, after=after))
    verdict = turn.verdict(answer)
    colour = {True: "bold green", False: "bold red", None: ""}[verdict.correct]
    console.print(Text(closing_line(answer, verdict), style=colour))
    return answer


def _read_question(question: str | None) -> str:
    """The question of the command line, or of standard input.

    Raises:
        UsageError: there is none, or it is no text.
    """
    if question is None and sys.stdin.isatty():
        raise UsageError(
            'no question: give one, as in parathinker ask "What is 48 * 76?", pipe one in, '
            "or try --example"
        )
    if question is None or question == "-":
        question = sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape").strip()
    return _checked(question, "the question")


def _checked(text: str, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not valid UTF-8 text: {error.reason}") from error
    if not text.strip():
        raise UsageError(f"{what} is empty")
    return text


def _choose(problems: list[ExampleProblem], number: int | None, seed: int | None) -> ExampleProblem:
    if number is None:
        return random.Random(seed).choice(problems)
    if not 1 <= number <= len(problems):
        raise UsageError(
            f"example-number should be from 1 to {len(problems)} for this model; got {number}"
        )
    return problems[number - 1]
