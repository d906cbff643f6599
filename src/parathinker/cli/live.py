"""The live view: paths side by side as they are written, the summary below; then the next round."""

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
    path_states,
    printable,
)
from parathinker.params import AUTO, ThinkingParams

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
    """Follows one request's events on a terminal, one round of thinking below the other."""

    def __init__(self, console: Console, question: str, params: ThinkingParams) -> None:
        self._console, self._question, self._params = console, printable(question), params
        self._round = 1
        self._paths = self._first_paths()
        self._summary: _Writing | None = None
        self._tokens = 0
        self._began = time.perf_counter()

    def follow(self, events: Iterator[StreamEvent]) -> Answer:
        """Show events as they come; the paths and the summaries stay on the screen."""
        self._console.print(Text(self._question, style="bold"))
        answer: Answer | None = None
        next_frame = 0.0
        live = self._open()
        try:
            for event in events:
                if isinstance(event, Done):
                    answer = event.answer
                    continue
                if event.round != self._round:
                    self._close(live, out_of_tokens=False)
                    live = self._next_round(event.round)
                self._take(event)
                now = time.perf_counter()
                if now >= next_frame:
                    live.update(self._frame(), refresh=True)
                    spent = time.perf_counter() - now
                    next_frame = now + max(FRAME_INTERVAL_S, spent / MOST_SHARE_OF_TIME)
            assert answer is not None
            self._close(live, out_of_tokens=answer.summary.finish_reason == "length")
        finally:
            live.stop()
        return answer

    def _open(self) -> Live:
        if self._params.rounds > 1:
            heading = f"round {self._round} of {self._params.rounds}"
            self._console.print(Text(heading, style="dim"))
        live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        live.start()
        return live

    def _close(self, live: Live, *, out_of_tokens: bool) -> None:
        """A round's last frame, drawn when its view stops: it may be taller than the screen."""
        live.update(self._frame(done=True, out_of_tokens=out_of_tokens))
        live.stop()

    def _next_round(self, number: int) -> Live:
        self._round, self._paths, self._summary = number, self._first_paths(), None
        return self._open()

    def _first_paths(self) -> dict[int, _Writing]:
        """Paths that are known to come; with automatic width others join later."""
        paths = self._params.paths
        return {} if paths == AUTO else {i: _Writing() for i in range(1, int(paths) + 1)}

    def _take(self, event: PathToken | PathEnd | SummaryToken) -> None:
        if isinstance(event, PathEnd):
            self._paths[event.thought_id].finish_reason = event.finish_reason
            return
        if isinstance(event, PathToken):
            writing = self._paths.setdefault(event.thought_id, _Writing())
        else:
            writing = self._summary = self._summary or _Writing()
        self._tokens += 1
        writing.tokens += 1
        writing.text += printable(event.text)

    def _frame(self, *, done: bool = False, out_of_tokens: bool = False) -> RenderableType:
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
            whole = max(height, len(summary)) if done else height
            summary_tail = self._tail(summary, width - 4, whole) or [Text()]
        longest = max(len(tail) for tail in tails.values())
        layout = plan(len(self._paths), width, height, longest, len(summary_tail), done)
        states = self._states()
        parts: list[RenderableType] = [
            self._grid(tails, states, layout) if layout.columns else self._lines(states, layout)
        ]
        if summary_tail:
            shown = summary_tail[-layout.summary_lines :]
            parts.append(self._summary_panel(shown, done, out_of_tokens))
        if not done:
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

    def _summary_panel(self, lines: list[Text], done: bool, out_of_tokens: bool) -> Panel:
        return Panel(
            _block(lines),
            title="summary",
            title_align="left",
            subtitle="out of tokens" if out_of_tokens else None,
            subtitle_align="left",
            border_style="bold white" if done else "white",
        )

    def _status(self) -> Text:
        doing = "summing up" if self._summary else "thinking"
        spent = cost(self._tokens, time.perf_counter() - self._began)
        line = f"{doing}: {self._tokens:,} tokens · {spent}"
        return Text(line, style="dim", no_wrap=True, overflow="crop")

    def _states(self) -> dict[int, PathState]:
        ends = {i: (path.finish_reason, path.tokens) for i, path in self._paths.items()}
        return path_states(ends, self._params)

    def _usable_height(self) -> int:
        """Lines below the question, as far as it can stay, less the one that the cursor is on."""
        question = len(Text(self._question).wrap(self._console, self._console.width))
        heading = self._params.rounds > 1
        return max(2, self._console.height - 1 - min(question, QUESTION_LINES) - heading)

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
