"""Whole servers: OpenAI's own client, clients that misbehave, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from parathinker.serving.app import create_app
from parathinker.serving.host import Host
from parathinker.serving.server import Server
from parathinker.serving.settings import load_settings
from serving_client import KEY, QUESTION, ServerProcess, running

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
CANCELLED = "parathinker_requests_cancelled_total"
IN_USE = 'parathinker_kv_bytes{use="in_use"}'
LONG: Any = {"n": 8, "thinking": {"paths": 16, "rounds": 4, "termination": "last-finish"}}
"""Takes many seconds: 70,000 tokens."""


def api(server: ServerProcess, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": MESSAGES, **fields}


def test_the_openai_client_works_unchanged(tiny_server: ServerProcess) -> None:
    ask = api(tiny_server)
    assert [model.id for model in ask.models.list()] == ["tiny"]
    assert ask.models.retrieve("tiny").id == "tiny"
    answer = ask.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        n=2,
        seed=7,
        temperature=0.9,
        top_p=0.95,
        logprobs=True,
        top_logprobs=2,
        max_completion_tokens=30,
        extra_body={"thinking": {"paths": 2}},
    )
    assert len(answer.choices) == 2
    first = answer.choices[0]
    assert first.message.content
    assert first.message.content.startswith("Answer")
    assert first.message.reasoning.startswith("[path 1]")  # type: ignore[attr-defined]
    assert first.logprobs is not None
    assert first.logprobs.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens
    text = ask.completions.create(model="tiny", prompt=QUESTION, seed=7)
    assert text.choices[0].text.startswith("Answer")


def test_the_openai_client_streams(tiny_server: ServerProcess) -> None:
    stream = api(tiny_server).chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        seed=7,
        stop=["\n\n"],
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("Answer")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 100
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


def test_the_openai_client_understands_the_errors(tiny_server: ServerProcess) -> None:
    ask = api(tiny_server).chat.completions
    with pytest.raises(openai.NotFoundError) as unknown:
        ask.create(model="other", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        ask.create(model="tiny", messages=MESSAGES, tools=[])
    assert refused.value.param == "tools"


def test_a_client_that_leaves_frees_the_memory_at_once(
    tiny_server: ServerProcess, measured: Callable[..., None]
) -> None:
    cancelled = tiny_server.metric(CANCELLED)
    for stream in (True, False):
        with raw_request(tiny_server, body(**LONG, stream=stream)):
            wait_until(lambda: tiny_server.metric(IN_USE) > 0)
        left = time.monotonic()
        wait_until(lambda: tiny_server.metric(IN_USE) == 0)
        seconds = time.monotonic() - left
        measured("seconds from a client's leaving to free memory", seconds)
        assert seconds < 2
        wait_until(lambda: tiny_server.metric("parathinker_answers_running") == 0)
    assert tiny_server.metric(CANCELLED) == cancelled + 2


def test_bytes_behind_a_request_do_not_hide_that_its_client_left(
    tiny_server: ServerProcess,
) -> None:
    cancelled = tiny_server.metric(CANCELLED)
    with raw_request(tiny_server, body(**LONG)) as connection:
        wait_until(lambda: tiny_server.metric(IN_USE) > 0)
        connection.sendall(b"x")
        time.sleep(0.1)
    wait_until(lambda: tiny_server.metric(IN_USE) == 0, 5)
    assert tiny_server.metric(CANCELLED) == cancelled + 1


def test_a_shutdown_waits_for_responses_that_are_still_being_read() -> None:
    async def drain(grace_s: float, reading_s: float) -> float:
        host = Host(load_settings({"shutdown_grace_s": grace_s}))
        server = Server(uvicorn.Config(create_app(host)), host)
        reading = asyncio.create_task(asyncio.sleep(reading_s))
        server.server_state.tasks.add(reading)
        reading.add_done_callback(server.server_state.tasks.discard)
        began = time.monotonic()
        await server._drain()
        assert server.should_exit
        return time.monotonic() - began

    assert 0.3 <= asyncio.run(drain(grace_s=20, reading_s=0.3)) < 5
    assert 0.3 <= asyncio.run(drain(grace_s=0.3, reading_s=20)) < 5


def test_too_many_too_long_and_a_shutdown_with_grace() -> None:
    options = ("--limit-running", 1, "--limit-queued", 1, "--request-timeout-s", 4)
    with running(*options, "--shutdown-grace-s", 0.5) as server:
        asked = body(**LONG)
        url = f"{server.url}/v1/chat/completions"
        results: dict[str, httpx.Response] = {}

        def ask(name: str, **fields: Any) -> threading.Thread:
            def run() -> None:
                results[name] = httpx.post(url, json={**asked, **fields}, timeout=60)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        first = ask("first", stream=True)
        wait_until(lambda: server.metric("parathinker_answers_running") == 1)
        second = ask("second")
        wait_until(lambda: server.metric("parathinker_requests_queued") == 1)
        third = httpx.post(url, json=asked)
        assert third.status_code == 429
        assert third.headers["retry-after"] == "1"
        assert third.json()["error"]["code"] == "rate_limit_exceeded"
        first.join()
        second.join()
        # The stream had begun, so its end says it; the other waited in vain.
        assert results["first"].status_code == 200
        last = json.loads(results["first"].text.strip().rsplit("data: ", 1)[1])
        assert last["error"]["code"] == "timeout"
        assert results["second"].status_code == 504
        wait_until(lambda: server.metric(IN_USE) == 0)

        cut = ask("cut", stream=True)
        wait_until(lambda: server.metric("parathinker_answers_running") == 1)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        late = httpx.post(url, json=asked)
        assert late.status_code == 503
        assert httpx.get(f"{server.url}/health").json()["status"] == "stopping"
        cut.join()
        last = json.loads(results["cut"].text.strip().rsplit("data: ", 1)[1])
        assert last["error"]["code"] == "unavailable"
        assert server.process.wait(20) == 0


def test_a_shutdown_lets_running_requests_end() -> None:
    with running(PARATHINKER_SERVE_API_KEYS=KEY) as server:
        with pytest.raises(openai.AuthenticationError):
            api(server, "wrong").models.list()
        got: list[Any] = []

        def ask() -> None:
            chat = api(server, KEY).chat.completions
            got.append(chat.create(model="tiny", messages=MESSAGES, n=4))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        assert server.stop(signal.SIGINT) == 0
        thread.join()
        assert len(got[0].choices) == 4


def test_bodies_that_are_too_large_or_too_slow_or_broken(tiny_server: ServerProcess) -> None:
    url = f"{tiny_server.url}/v1/chat/completions"
    large = body(user="x" * (1 << 21))
    assert httpx.post(url, json=large).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 15)

    headers = {"content-type": "application/json"}
    try:
        chunked = httpx.post(url, content=pieces(), headers=headers)
        assert chunked.status_code == 413
    except httpx.WriteError:
        pass  # the connection may be closed while the rest is still being sent
    for content in (b"\xff", b"[" * 10_000, b'{"a":' * 10_000):
        assert httpx.post(url, content=content, headers=headers).status_code == 400
    with raw_request(tiny_server, body(), end=-5) as half:
        half.shutdown(socket.SHUT_WR)  # half a body, and then nothing
    with raw_request(tiny_server, body()) as half_closed:
        half_closed.shutdown(socket.SHUT_WR)
    assert httpx.post(url, json=body(seed=1), timeout=60).status_code == 200
    wait_until(lambda: tiny_server.metric(IN_USE) == 0)


def test_a_slow_reader_does_not_keep_memory(tiny_server: ServerProcess) -> None:
    with raw_request(tiny_server, body(stream=True, n=4)):
        # Nothing is read; thinking goes on to its end, and is merged meanwhile.
        wait_until(lambda: tiny_server.metric(IN_USE) > 0)
        wait_until(lambda: tiny_server.metric(IN_USE) == 0)


def test_a_port_in_use_and_a_model_that_is_none_are_said_and_end_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = run_to_end("--port", port)
    assert code == 2
    assert "cannot listen" in said
    code, said = run_to_end("--model", "nothing-like-it")
    assert code == 1
    assert "unknown model" in said


def run_to_end(*options: object) -> tuple[int, str]:
    """A server that cannot start: its exit code and what it said."""
    command = [sys.executable, "-m", "parathinker", "serve", "--port", "0", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@contextmanager
def raw_request(
    server: ServerProcess, content: dict[str, Any], end: int | None = None
) -> Iterator[socket.socket]:
    """A chat request over a bare socket, which is closed when the block ends."""
    data = json.dumps(content).encode()
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + data[:end])
        yield connection


def wait_until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)
