"""What clients may do to a connection, without a network: too slow, gone, or not reading."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from serving_client import QUESTION, Client, client
from thinkers import no_leak, shared

LONG: Any = {"n": 8, "thinking": {"paths": 16, "rounds": 4, "termination": "last-finish"}}


def body(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": QUESTION}]
    return json.dumps({"model": "tiny", "messages": messages, **fields}).encode()


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield body()[:10]
        await asyncio.sleep(5)
        yield body()[10:]

    asked = client(body_timeout_s=0.05)
    headers = {"content-type": "application/json"}
    response = asked.post("/v1/chat/completions", content=slowly(), headers=headers)
    assert response.status_code == 408
    assert response.json()["error"]["code"] == "request_timeout"


def test_a_body_is_counted_as_it_arrives_whatever_was_announced() -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    asked = client(limit_body_bytes=1000)
    for headers in ({}, {"content-length": "10"}, {"content-length": "99999"}):
        response = asked.post("/v1/chat/completions", content=much(), headers=headers)
        assert response.status_code == 413
    assert asked.chat(thinking={"paths": 1}).status_code == 200


class Caller:
    """Speaks ASGI to an application: sends a request, then behaves as it is told."""

    def __init__(self, asked: Client, content: bytes, *, reads: int, leaves: bool) -> None:
        self._asked, self._content = asked, content
        self._reads, self._leaves = reads, leaves
        self._sent = asyncio.Event()
        self._requested = False
        self.messages: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self._requested:
            self._requested = True
            return {"type": "http.request", "body": self._content, "more_body": False}
        await self._sent.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.messages) >= self._reads:
            if self._leaves:
                self._sent.set()
            await asyncio.Event().wait()

    async def call(self) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        path = "/v1/chat/completions"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "asgi": {"version": "3.0"},
        }
        await self._asked.app(scope, self.receive, self.send)


def test_a_client_that_does_not_read_is_left_in_the_end() -> None:
    asked = client(send_timeout_s=0.2)
    with no_leak(shared("tiny")):
        started = time.monotonic()
        caller = Caller(asked, body(**LONG, stream=True), reads=5, leaves=False)
        asyncio.run(asyncio.wait_for(caller.call(), 10))
        assert time.monotonic() - started < 5


def test_a_client_that_leaves_in_mid_stream_leaves_nothing_behind() -> None:
    asked = client()
    with no_leak(shared("tiny")):
        caller = Caller(asked, body(**LONG, stream=True), reads=5, leaves=True)
        asyncio.run(asyncio.wait_for(caller.call(), 10))
    metrics = asked.get("/metrics").text
    assert "parathinker_requests_cancelled_total 1.0" in metrics
    assert "parathinker_answers_running 0.0" in metrics


def test_a_request_that_takes_too_long_ends_and_leaves_nothing_behind() -> None:
    asked = client(request_timeout_s=0.3)
    with no_leak(shared("tiny")):
        response = asked.chat(**LONG)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"
        streamed = asked.chat(**LONG, stream=True)
    assert streamed.status_code == 200
    last = streamed.text.strip().rsplit("data: ", 1)[1]
    assert json.loads(last)["error"]["code"] == "timeout"
    assert "[DONE]" not in streamed.text
    assert "parathinker_requests_timed_out_total 2.0" in asked.get("/metrics").text


class Listener(Caller):
    """Reads to the end, behind which a web server says that the client is gone."""

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._sent.set()


def test_a_stream_that_the_server_ends_is_no_client_that_left() -> None:
    asked = client(request_timeout_s=0.3)
    with no_leak(shared("tiny")):
        caller = Listener(asked, body(**LONG, stream=True), reads=0, leaves=False)
        asyncio.run(asyncio.wait_for(caller.call(), 10))
    metrics = asked.get("/metrics").text
    assert "parathinker_requests_timed_out_total 1.0" in metrics
    assert "parathinker_requests_cancelled_total 0.0" in metrics
