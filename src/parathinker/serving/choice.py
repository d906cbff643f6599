"""One answer in the making: its events, told as what is new for a client since it last looked."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from parathinker.answer import Answer, Done, PathEnd, PathToken, StreamEvent, SummaryToken
from parathinker.serving.logprobs import LogprobWriter, TokenLogprob
from parathinker.serving.text import AnswerText

ANSWER = 0
"""Stands where a path's number stands, for a summary."""


@dataclass
class News:
    """What happened to one path, or to a summary; tokens that came together are one of these."""

    path: int
    """1 to P; 0 is a summary."""
    round: int
    event: str
    """``start``, ``token`` or ``end``."""
    text: str | None = None
    """None where it is not shown."""
    tokens: int = 0
    finish_reason: str | None = None
    final: bool = False
    """It is the last round's summary: the answer itself."""
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Choice:
    """Listens to one request of the engine.

    Args:
        rounds: how many there will be; the last one's summary is the answer.
        stops: texts that end the answer.
        show: whether paths' texts are wanted (``paths``), only that they grow (``summary``), or
            nothing of them (``none``).
        logprobs: turns the answer's tokens into what clients are told of them, if they asked.
    """

    def __init__(
        self,
        index: int,
        rounds: int,
        stops: Sequence[str] = (),
        show: str = "none",
        logprobs: LogprobWriter | None = None,
    ) -> None:
        self.index, self._rounds, self._show = index, rounds, show
        self._text, self._logprobs = AnswerText(stops), logprobs
        self._written = False
        """Whether the answer is beyond its forced beginning."""
        self._unsure: deque[tuple[int, TokenLogprob]] = deque()
        """Tokens that may turn out to be a stop text's, and where in the answer they begin."""
        self._news: list[News] = []
        self._open: dict[tuple[int, int], News] = {}
        """News that further tokens of the same path can join."""
        self._begun: set[tuple[int, int]] = set()
        self.content = ""
        """The answer so far."""
        self.logprobs: list[TokenLogprob] = []
        """Of the answer's tokens so far."""
        self.answer: Answer | None = None
        """Once it is done."""

    @property
    def finish_reason(self) -> str:
        """Why the answer ended."""
        assert self.answer is not None
        return "stop" if self._text.stopped else self.answer.summary.finish_reason

    def take(self, event: StreamEvent) -> None:
        """Something happened."""
        if isinstance(event, SummaryToken):
            self._take_summary(event)
        elif isinstance(event, PathToken):
            if self._show != "none":
                self._take_path(event)
        elif isinstance(event, PathEnd):
            self._open.pop((event.thought_id, event.round), None)
            if self._show != "none":
                reason = event.finish_reason
                end = News(event.thought_id, event.round, "end", finish_reason=reason)
                self._news.append(end)
        else:
            self._finish(event)

    def news(self) -> list[News]:
        """What is new since the last call."""
        news, self._news = self._news, []
        self._open.clear()
        return news

    def _take_path(self, event: PathToken) -> None:
        key = event.thought_id, event.round
        if key not in self._begun:
            self._begun.add(key)
            self._news.append(News(*key, "start"))
        news = self._entry(*key)
        news.tokens += 1
        if self._show == "paths":
            news.text = (news.text or "") + event.text

    def _take_summary(self, event: SummaryToken) -> None:
        if event.round < self._rounds:
            if self._show != "none":
                news = self._entry(ANSWER, event.round)
                news.tokens += 1
                news.text = (news.text or "") + event.text
            return
        self._written |= event.logprob is not None
        logprob = self._logprobs.write(event) if self._logprobs else None
        if logprob and not self._text.stopped:
            self._unsure.append((self._text.length, logprob))
        text = self._text.push(event.text, forced=not self._written)
        self._add_answer(text, self._sure_logprobs())

    def _sure_logprobs(self) -> list[TokenLogprob]:
        """Of tokens that became certain to be the answer's."""
        sure = []
        while self._unsure and self._unsure[0][0] < self._text.sure:
            sure.append(self._unsure.popleft()[1])
        return sure

    def _add_answer(self, text: str, logprobs: list[TokenLogprob]) -> None:
        if text or logprobs:
            news = self._entry(ANSWER, self._rounds)
            news.final = True
            news.text = (news.text or "") + text
            news.logprobs += logprobs
            self.content += text
            self.logprobs += logprobs

    def _finish(self, done: Done) -> None:
        text, logprobs = self._text.close(), self._sure_logprobs()
        if not self._text.stopped:
            logprobs += [logprob for _, logprob in self._unsure]
        self._add_answer(text, logprobs)
        self.answer = done.answer

    def _entry(self, path: int, round: int) -> News:
        """The news that a token joins."""
        found = self._open.get((path, round))
        if found is None:
            found = self._open[path, round] = News(path, round, "token")
            self._news.append(found)
        return found
