"""``parathinker chat``: question after question, with a model here or behind a server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from parathinker.answer import Answer, Done
from parathinker.cli import options as o
from parathinker.cli.chat_partners import LocalPartner, Partner
from parathinker.cli.chat_settings import HELP, SHOW, ChatSettings, change
from parathinker.cli.chat_view import follow_answer
from parathinker.cli.live import LiveView
from parathinker.cli.outcome import closing_line, printable
from parathinker.cli.plain import plain_text
from parathinker.data.tasks import judge
from parathinker.errors import ParaThinkerError
from parathinker.modeling.folders import resolve_model
from parathinker.params import AUTO, TERMINATIONS

_PROMPT = "> "
_LEAVE = ("/quit", "/exit")


def chat(
    model: Annotated[
        str | None,
        typer.Option(help="An embedded model's name, a folder, or a hub id. [tiny]"),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a server, such as http://127.0.0.1:8000; PARATHINKER_API_KEY holds its key.",
        ),
    ] = None,
    paths: Annotated[
        str | None, typer.Option(help=f"Paths that think side by side, or {AUTO}. [8]")
    ] = None,
    termination: Annotated[
        str | None, typer.Option(help=f"When to sum up: {', '.join(TERMINATIONS)}.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="How often to think. [1]")] = None,
    max_path_tokens: Annotated[int | None, typer.Option(help="Tokens a path may have.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the paths; by default the model's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None,
    show: Annotated[
        str, typer.Option(help=f"What to show of the thinking: {', '.join(SHOW)}.")
    ] = SHOW[0],
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    weights: o.Weights = "auto",
    kv_cache_memory: o.KVCacheMemory = None,
    threads: o.Threads = None,
) -> None:
    """Chat: each question follows up the answers before. /help lists what can be set.

    Ctrl-C stops an answer, Ctrl-D ends the chat. Without a terminal, each line of standard input is
    a question.

    \b
    Examples:
      parathinker chat
      parathinker chat --model my-model --paths 4
      parathinker chat --server http://127.0.0.1:8000
    """
    given = {
        "paths": None if paths is None else o.read_paths(paths),
        "termination": termination,
        "rounds": rounds,
        "max_path_tokens": max_path_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    console = Console(highlight=False)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with console.status("Loading the model …") if interactive and not server else nullcontext():
        partner: Partner
        if server is not None:
            from parathinker.cli.chat_server import ServerPartner

            partner = ServerPartner(server, model)
        else:
            folder = resolve_model(model or "tiny")
            engine = {"weights": weights, "kv_cache_memory": kv_cache_memory, "threads": threads}
            partner = _load(folder, device, dtype, engine)
    settings = ChatSettings(partner.params(given), show)
    if interactive:
        _Chat(partner, settings, console).talk()
    else:
        _answer_lines(partner, settings)


def _load(folder: Path, device: str, dtype: str, engine: dict[str, Any]) -> LocalPartner:
    from parathinker.parathinker import ParaThinker

    return LocalPartner(folder.name, ParaThinker.from_pretrained(folder, device, dtype, **engine))


class _Chat:
    """A conversation on a terminal."""

    def __init__(self, partner: Partner, settings: ChatSettings, console: Console) -> None:
        self._partner, self._settings, self._console = partner, settings, console
        self._live = not console.is_dumb_terminal

    def talk(self) -> None:
        """Until the user has had enough."""
        # Importing it is what gives a prompt its editing and its history, which is kept nowhere.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        alone = "" if self._partner.remembers else "; it takes each question by itself"
        self._say(f"{printable(self._partner.name)}{alone}. /help lists commands, Ctrl-D ends it.")
        over = False
        while not over:
            try:
                while not over:
                    over = self._turn()
            except KeyboardInterrupt:  # between turns: whoever presses twice does not mean to leave
                pass

    def _turn(self) -> bool:
        """One line and what comes of it; whether it was the last."""
        try:
            line = input(_PROMPT).strip()
        except (KeyboardInterrupt, EOFError) as end:
            print()
            return isinstance(end, EOFError)
        if line in _LEAVE:
            return True
        try:
            if line.startswith("/"):
                self._settings, said = _command(self._partner, self._settings, line)
                self._say(said)
            elif line:
                self._answer(line)
        except ParaThinkerError as error:
            self._say(f"Error: {error}", "red")
        except KeyboardInterrupt:
            self._say("Stopped.")
        return False

    def _answer(self, question: str) -> None:
        settings, console = self._settings, self._console
        events = self._partner.ask(question, settings.params, settings.show)
        with closing(events):  # type: ignore[type-var]
            if settings.show == "paths" and self._live:
                # The question stands on the screen already.
                answer = LiveView(console, "", settings.params).follow(events)
            else:
                progress = self._live and settings.show == "summary"
                answer = follow_answer(console, events, settings, progress)
        verdict = judge(self._partner.task, question, answer.text)
        colour = {True: "bold green", False: "bold red", None: "dim"}[verdict.correct]
        console.print(Text(closing_line(answer, verdict), style=colour))

    def _say(self, text: str, style: str = "dim") -> None:
        self._console.print(Text(printable(text), style=style))


def _command(partner: Partner, settings: ChatSettings, line: str) -> tuple[ChatSettings, str]:
    name, _, value = line.removeprefix("/").partition(" ")
    if name == "help":
        return settings, HELP
    if name == "reset":
        partner.reset()
        return settings, "Forgotten."
    return change(settings, name, value.strip())


def _answer_lines(partner: Partner, settings: ChatSettings) -> None:
    """Answer each line of standard input as plain text; commands are followed too.

    Raises:
        ParaThinkerError: a line could not be answered; the others were.
    """
    failed = 0
    for number, line in _lines():
        if line in _LEAVE:
            break
        try:
            if line.startswith("/"):
                settings, said = _command(partner, settings, line)
                print(printable(said), file=sys.stderr)
            else:
                print(_answered(partner, settings, line), end="\n\n", flush=True)
        except ParaThinkerError as error:
            failed += 1
            print(f"Error: line {number}: {printable(str(error))}", file=sys.stderr)
    if failed:
        raise ParaThinkerError(f"{failed} of the lines could not be answered")


def _lines() -> Iterator[tuple[int, str]]:
    for number, data in enumerate(sys.stdin.buffer, 1):
        line = data.decode("utf-8", errors="surrogateescape").strip()
        if line:
            yield number, line


def _answered(partner: Partner, settings: ChatSettings, question: str) -> str:
    events = partner.ask(question, settings.params, settings.show)
    answer: Answer = next(event.answer for event in events if isinstance(event, Done))
    if settings.show != "paths":
        return printable(answer.text).strip()
    verdict = judge(partner.task, question, answer.text)
    return f"{printable(question)}\n\n{plain_text(answer, verdict)}"
