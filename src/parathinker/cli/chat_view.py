"""An answer on a terminal without its paths: how far they are, then the text as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status
from rich.text import Text

from parathinker.answer import Answer, Done, PathEnd, StreamEvent, SummaryToken
from parathinker.cli.chat_settings import ChatSettings
from parathinker.cli.outcome import printable

_INTERVAL_S = 0.1


def follow_answer(
    console: Console, events: Iterator[StreamEvent], settings: ChatSettings, progress: bool
) -> Answer:
    """Show events as they come, earlier rounds' summaries only with ``show: summary``.

    Args:
        progress: whether to count tokens on a line that goes away.
    """
    rounds, tokens, shown = settings.params.rounds, 0, 0.0
    earlier = settings.show != "none"
    current, begun = 1, False
    answer: Answer | None = None
    status = Status("thinking …", console=console) if progress else None
    if status is not None:
        status.start()
    try:
        for event in events:
            if isinstance(event, Done):
                answer = event.answer
                continue
            if isinstance(event, PathEnd):
                continue
            tokens += 1
            if isinstance(event, SummaryToken) and (earlier or event.round == rounds):
                if status is not None:
                    status.stop()
                if event.round != current:
                    _write(console, "\n")
                    current, begun = event.round, False
                text = event.text if begun else event.text.lstrip()
                begun = begun or bool(text)
                _write(console, text)
            elif status is not None and time.monotonic() >= shown + _INTERVAL_S:
                shown = time.monotonic()
                status.update(f"thinking: {tokens:,} tokens")
                status.start()
    finally:
        if status is not None:
            status.stop()
        _write(console, "\n")
    assert answer is not None
    return answer


def _write(console: Console, text: str) -> None:
    console.print(Text(printable(text)), end="", soft_wrap=True)
