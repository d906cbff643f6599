"""A response that is sent while it is thought: server-sent events, merged where they pile up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parathinker.serving.choice import Choice, News
from parathinker.serving.errors import ApiError
from parathinker.serving.logs import Record
from parathinker.serving.responses import Head, Json, timings, usage
from parathinker.serving.run import Run
from parathinker.serving.translation import Order

KEEPALIVE_S = 5.0
"""A comment goes out after so many seconds without news, so that proxies hold the connection."""
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": thinking\n\n"


class Chunks(Protocol):
    """One endpoint's way to say what is new."""

    def begin(self, choice: Choice) -> Iterator[Json]:
        """Before anything else."""
        ...

    def tell(self, choice: Choice, news: News) -> Json:
        """A choice's entry for a piece of news."""
        ...

    def end(self, choice: Choice) -> Json:
        """Behind everything else."""
        ...


class ChatChunks:
    """Entries of chat completion chunks.

    Args:
        logprobs: whether they were asked for.
    """

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs

    def begin(self, choice: Choice) -> Iterator[Json]:
        """The role comes first."""
        yield self._entry(choice, {"role": "assistant", "content": ""})

    def tell(self, choice: Choice, news: News) -> Json:
        """Text of the answer, or what a path does."""
        if not news.final:
            return self._entry(choice, thinking_delta(news))
        logprobs = {"content": news.logprobs, "refusal": None} if self._logprobs else None
        return self._entry(choice, {"content": news.text or ""}, logprobs)

    def end(self, choice: Choice) -> Json:
        """The finish reason comes last."""
        return self._entry(choice, {}, finish_reason=choice.finish_reason)

    def _entry(
        self,
        choice: Choice,
        delta: Json,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
    ) -> Json:
        return {
            "index": choice.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }


class CompletionChunks:
    """Entries of text completion chunks; thinking, where it is shown, stands beside the text."""

    def begin(self, choice: Choice) -> Iterator[Json]:
        """Nothing."""
        yield from ()

    def tell(self, choice: Choice, news: News) -> Json:
        """Text of the answer, or what a path does."""
        if news.final:
            return self._entry(choice, news.text or "")
        return {**self._entry(choice, ""), **thinking_delta(news)}

    def end(self, choice: Choice) -> Json:
        """The finish reason comes last."""
        return self._entry(choice, "", choice.finish_reason)

    def _entry(self, choice: Choice, text: str, finish_reason: str | None = None) -> Json:
        return {
            "index": choice.index,
            "text": text,
            "logprobs": None,
            "finish_reason": finish_reason,
        }


def thinking_delta(news: News) -> Json:
    """What a path, or an earlier round's summary, does."""
    thinking: dict[str, Any] = {"path": news.path, "round": news.round, "event": news.event}
    if news.event == "end":
        thinking["finish_reason"] = news.finish_reason
    if news.event != "token":
        return {"thinking": thinking}
    thinking["tokens"] = news.tokens
    if news.text is None:
        return {"thinking": thinking}
    return {"reasoning": news.text, "reasoning_content": news.text, "thinking": thinking}


class EventStream(Response):
    """Sends a run as it goes; when it returns or is cancelled, the run is over.

    Args:
        interval_s: least time between two writes; what comes meanwhile is merged.
    """

    media_type = "text/event-stream"

    def __init__(
        self, run: Run, order: Order, head: Head, chunks: Chunks, interval_s: float
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._run, self._order, self._head, self._chunks = run, order, head.fields(), chunks
        self._interval_s = interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        try:
            await self._send(send, scope["state"]["record"])
        finally:
            await self._run.close()

    async def _send(self, send: Send, record: Record) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)

        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        opening = [entry for c in self._run.choices for entry in self._chunks.begin(c)]
        await write(b"".join(map(self._event, opening)))
        try:
            await self._follow(write)
        except ApiError as error:
            record.code = error.code
            await write(b"data: " + _json(error.body()) + b"\n\n", False)
            return
        closing = [self._event(self._chunks.end(choice)) for choice in self._run.choices]
        if self._order.include_usage:
            closing.append(self._usage())
        await write(b"".join(closing) + _DONE, False)

    async def _follow(self, write: Any) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiting = asyncio.ensure_future(self._run.news())
            try:
                while not (await asyncio.wait({waiting}, timeout=KEEPALIVE_S))[0]:
                    await write(_COMMENT)
            except BaseException:
                waiting.cancel()
                raise
            news = waiting.result()
            if news is None:
                return
            written = loop.time()
            entries = [self._chunks.tell(choice, one) for choice, fresh in news for one in fresh]
            await write(b"".join(map(self._event, entries)))
            pause = written + self._interval_s - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)

    def _event(self, entry: Json) -> bytes:
        chunk: Json = {**self._head, "choices": [entry]}
        if self._order.include_usage:
            chunk["usage"] = None  # as OpenAI has it on all chunks but the last
        return b"data: " + _json(chunk) + b"\n\n"

    def _usage(self) -> bytes:
        choices = self._run.choices
        chunk = {
            **self._head,
            "choices": [],
            "usage": usage(choices, self._order),
            "timings": timings(choices),
        }
        return b"data: " + _json(chunk) + b"\n\n"


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
