"""The live view: paths side by side as they are written, the summary below."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from parathinker.answer import Answer, Done, PathEnd, PathToken, StreamEvent, SummaryToken
from parathinker.cli.layout import Layout, plan
from parathinker.cli.outcome import (
    FIRST,
    PathState,
    cost,
    first_finishers,
    path_state,
    printable,
)

FRAME_INTERVAL_S = 1 / 15
MOST_SHARE_OF_TIME = 0.1
"""Drawing waits rather than take more of the time than this."""
QUESTION_LINES = 3
"""Lines that a longer question may scroll away to."""


@dataclass
class _Writing:
    """A path or the summary so far."""

    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None


class LiveView:
    """Follows one request's events on a terminal."""

    def __init__(self, console: Console, question: str, paths: int) -> None:
        self._console, self._question = console, printable(question)
        self._paths = {i: _Writing() for i in range(1, paths + 1)}
        self._summary: _Writing | None = None
        self._began = time.perf_counter()

    def follow(self, events: Iterator[StreamEvent]) -> Answer:
        """Show events as they come; the paths and the summary so far stay on the screen."""
        self._console.print(Text(self._question, style="bold"))
        answer: Answer | None = None
        next_frame = 0.0
        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
            for event in events:
                if isinstance(event, Done):
                    answer = event.answer
                    continue
                self._take(event)
                now = time.perf_counter()
                if now >= next_frame:
                    live.update(self._frame(), refresh=True)
                    spent = time.perf_counter() - now
                    next_frame = now + max(FRAME_INTERVAL_S, spent / MOST_SHARE_OF_TIME)
            assert answer is not None
            # Drawn when the view closes, where it may be taller than the screen.
            live.update(self._frame(answer))
        return answer

    def _take(self, event: PathToken | PathEnd | SummaryToken) -> None:
        if isinstance(event, PathEnd):
            self._paths[event.thought_id].finish_reason = event.finish_reason
            return
        if isinstance(event, PathToken):
            writing = self._paths[event.thought_id]
        else:
            writing = self._summary = self._summary or _Writing()
        writing.tokens += 1
        writing.text += printable(event.text)

    def _frame(self, answer: Answer | None = None) -> RenderableType:
        width, height = self._console.width, self._usable_height()
        summary = None if self._summary is None else self._summary.text.strip()
        # A first plan says how wide the panels are, the second how high.
        columns = plan(len(self._paths), width, height, 1, 0, False).columns
        inner = width // columns - 4 if columns else width
        tails = {
            i: self._tail(path.text.strip("\n"), inner, height) for i, path in self._paths.items()
        }
        summary_tail: list[Text] = []
        if summary is not None:
            whole = height if answer is None else max(height, len(summary))
            summary_tail = self._tail(summary, width - 4, whole) or [Text()]
        longest = max(len(tail) for tail in tails.values())
        layout = plan(
            len(self._paths), width, height, longest, len(summary_tail), answer is not None
        )
        states = self._states()
        parts: list[RenderableType] = [
            self._grid(tails, states, layout) if layout.columns else self._lines(states, layout)
        ]
        if summary_tail:
            parts.append(self._summary_panel(summary_tail[-layout.summary_lines :], answer))
        if answer is None:
            parts.append(self._status())
        return Group(*parts)

    def _grid(
        self, tails: dict[int, list[Text]], states: dict[int, PathState], layout: Layout
    ) -> Table:
        grid = Table.grid(expand=True)
        for _ in range(layout.columns):
            grid.add_column(ratio=1)
        panels = [
            Panel(
                _block(tail[-layout.path_lines :]),
                title=f"path {i}",
                title_align="left",
                subtitle=states[i].label,
                subtitle_align="left",
                border_style=states[i].style,
                box=box.HEAVY if states[i] is FIRST else box.ROUNDED,
                height=layout.path_lines + 2,
            )
            for i, tail in tails.items()
        ]
        for start in range(0, len(panels), layout.columns):
            grid.add_row(*panels[start : start + layout.columns])
        return grid

    def _lines(self, states: dict[int, PathState], layout: Layout) -> Text:
        """A line for each path, where a terminal has no room for panels."""
        width = self._console.width
        shown = list(self._paths.items())
        left_out = 0
        if len(shown) > layout.path_lines:
            left_out = len(shown) - layout.path_lines + 1
            shown = shown[: layout.path_lines - 1]
        lines = []
        for i, path in shown:
            head = f"{i:>2} {states[i].label}: "
            last = path.text[-width:].split("\n")[-1]
            line = Text(head, style=states[i].style).append(last[-max(1, width - len(head)) :])
            lines.append(line)
        if left_out:
            lines.append(Text(f"and {left_out} more paths"))
        return _block(lines)

    def _summary_panel(self, lines: list[Text], answer: Answer | None) -> Panel:
        cut = answer is not None and answer.summary.finish_reason == "length"
        return Panel(
            _block(lines),
            title="summary",
            title_align="left",
            subtitle="out of tokens" if cut else None,
            subtitle_align="left",
            border_style="white" if answer is None else "bold white",
        )

    def _status(self) -> Text:
        written = [*self._paths.values(), *([self._summary] if self._summary else [])]
        tokens = sum(writing.tokens for writing in written)
        doing = "summing up" if self._summary else "thinking"
        line = f"{doing}: {tokens:,} tokens · {cost(tokens, time.perf_counter() - self._began)}"
        return Text(line, style="dim", no_wrap=True, overflow="crop")

    def _states(self) -> dict[int, PathState]:
        closed = {i: p.tokens for i, p in self._paths.items() if p.finish_reason == "stop"}
        first = first_finishers(closed)
        return {i: path_state(p.finish_reason, i in first) for i, p in self._paths.items()}

    def _usable_height(self) -> int:
        """Lines below the question, as far as it can stay, less the one that the cursor is on."""
        question = len(Text(self._question).wrap(self._console, self._console.width))
        return max(2, self._console.height - 1 - min(question, QUESTION_LINES))

    def _tail(self, text: str, width: int, lines: int) -> list[Text]:
        """The last lines of the text, wrapped to a width."""
        width = max(1, width)
        # Wrapping begins at a fixed place for a good while, so that lines do not jitter.
        block = width * lines
        start = max(0, (len(text) // block - 1) * block)
        if not text:
            return []
        return list(Text(text[start:]).wrap(self._console, width, overflow="fold", tab_size=4))[
            -lines:
        ]


def _block(lines: list[Text]) -> Text:
    """Lines that fit already, as one text that is not wrapped again."""
    return Text("\n", no_wrap=True, overflow="crop").join(lines)
