"""Servers under test: the application in this process, and whole ones in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from parathinker.modeling.folders import resolve_model
from parathinker.serving.app import create_app
from parathinker.serving.backend import describe
from parathinker.serving.host import Host
from parathinker.serving.settings import load_settings
from thinkers import shared

Json = dict[str, Any]
QUESTION = "What is 48213 * 7689?"
KEY = "a-key-for-tests"


class Client:
    """Asks an application in this process, one request at a time."""

    def __init__(self, host: Host) -> None:
        self.host, self.app = host, create_app(host)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, timeout=60, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Json | None = None, **options: Any) -> httpx.Response:
        more = {"json": body} if body is not None else {}
        return self.request("POST", path, **more, **options)

    def chat(self, text: str = QUESTION, **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        model = self.host.settings.served_name
        return self.post("/v1/chat/completions", {"model": model, "messages": messages, **fields})

    def stream(self, **fields: Any) -> list[Json]:
        """Chunks of a streamed chat; the end was in order."""
        response = self.chat(stream=True, **fields)
        assert response.status_code == 200, response.text
        events = sse(response.text)
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]


def sse(text: str) -> list[str]:
    """Data of server-sent events; comments left out."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


def client(model: str | Path = "tiny", **settings: Any) -> Client:
    """An application, its model loaded."""
    host = Host(load_settings({"model": str(model), **settings}))
    thinker = shared(model)
    host.adopt(thinker, describe(host.settings, thinker, resolve_model(str(model))))
    return Client(host)


class ServerProcess:
    """A server in a process of its own, as a user starts it."""

    def __init__(self, *options: object, **environment: str) -> None:
        self.started = time.monotonic()
        command = [sys.executable, "-m", "parathinker", "serve", "--port", "0"]
        threads = [] if "vllm" in options else ["--threads", "1"]
        self.process = subprocess.Popen(
            [*command, *threads, *map(str, options)],
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
            start_new_session=True,  # a signal to its group is not for ours
        )
        self.log: list[Json] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = str(self.wait_for("listening")["url"])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line) if line.startswith("{") else {"message": line})

    def wait_for(self, message: str, seconds: float = 60) -> Json:
        """The log's line with this message, once it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.log):
                if line["message"] == message:
                    return line
            assert self.process.poll() is None or self._reader.is_alive(), self.log
            time.sleep(0.01)
        raise TimeoutError(f"no {message!r} in {self.log}")

    def metric(self, name: str) -> float:
        """A metric's value now."""
        headers = {"Authorization": f"Bearer {KEY}"}
        for line in httpx.get(f"{self.url}/metrics", headers=headers).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def ctrl_c(self) -> None:
        """As a terminal sends it: to this process and to all that it started."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Whatever became of it, it is over."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running(*options: object, ready_s: float = 60, **environment: str) -> Iterator[ServerProcess]:
    """A server that is ready, and is gone when the block ends."""
    server = ServerProcess(*options, **environment)
    try:
        server.wait_for("ready", ready_s)
        yield server
    finally:
        server.kill()
