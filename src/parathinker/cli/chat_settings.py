"""What a user sets while chatting, and the commands that set it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parathinker.cli.options import read_paths
from parathinker.errors import UsageError
from parathinker.params import AUTO, TERMINATIONS, ThinkingParams

SHOW = ("paths", "summary", "none")
HELP = f"""\
/paths N|{AUTO}      paths side by side
/termination X    when to sum up: {", ".join(TERMINATIONS)}
/rounds N         how often to think
/tokens N         tokens a path may have
/seed N|random    same seed, same answer
/show X           what to show of the thinking: {", ".join(SHOW)}
/reset            forget what was said so far
/help, /quit      this list; the end
Without a value, a command says what holds now. Ctrl-C stops an answer, Ctrl-D ends the chat."""


@dataclass(frozen=True)
class ChatSettings:
    """How the next question is thought about, and what is shown of it."""

    params: ThinkingParams
    show: str = SHOW[0]
    """``paths``: all they write; ``summary``: that they grow, and earlier rounds' summaries;
    ``none``: the answer alone."""

    def __post_init__(self) -> None:
        if self.show not in SHOW:
            raise UsageError(f"show should be one of {', '.join(SHOW)}; got {self.show!r}")


def change(settings: ChatSettings, command: str, value: str) -> tuple[ChatSettings, str]:
    """Follow a command that sets something; without a value it only tells.

    Returns:
        the settings from now on, and what to say.

    Raises:
        UsageError: there is no such command, or the value cannot be.
    """
    if command == "show":
        if value:
            settings = dataclasses.replace(settings, show=value)
        return settings, f"show: {settings.show}"
    if command not in _FIELDS:
        raise UsageError(f"there is no command /{command}; /help lists those there are")
    name, read = _FIELDS[command]
    if value:
        params = dataclasses.replace(settings.params, **{name: read(command, value)})
        settings = dataclasses.replace(settings, params=params)
    now = getattr(settings.params, name)
    open_words = {"seed": "random", "tokens": "the model's own"}
    return settings, f"{command}: {open_words[command] if now is None else now}"


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} should be a whole number; got {text!r}") from None


_FIELDS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "paths": ("paths", lambda _, text: read_paths(text)),
    "termination": ("termination", lambda _, text: text),
    "rounds": ("rounds", _number),
    "tokens": ("max_path_tokens", _number),
    "seed": ("seed", lambda name, text: None if text == "random" else _number(name, text)),
}
"""The field of :class:`ThinkingParams` that a command sets, and how its value is read."""
