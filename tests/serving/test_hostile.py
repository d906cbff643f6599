"""Clients that mean harm, over bare sockets: the server answers or hangs up, and stays well."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from serving_client import QUESTION, ServerProcess

LONG = {"n": 8, "thinking": {"paths": 16, "rounds": 4, "termination": "last-finish"}}
IN_USE = 'parathinker_kv_bytes{use="in_use"}'


@contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(address(server), timeout=20) as connection:
        yield connection


def request(content: bytes, *headers: str) -> bytes:
    """A chat request as it goes over the wire."""
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: 127.0.0.1"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def chat(**fields: object) -> bytes:
    messages = [{"role": "user", "content": QUESTION}]
    return json.dumps({"model": "tiny", "messages": messages, **fields}).encode()


def status(connection: socket.socket) -> int | None:
    """Of the response; None where the server hung up without one."""
    try:
        line = connection.makefile("rb").readline()
    except ConnectionResetError:
        return None
    return int(line.split()[1]) if line else None


@pytest.fixture
def well(tiny_server: ServerProcess) -> Iterator[ServerProcess]:
    """The server, which is to be as well after a test as before: right, ready, holding nothing."""
    asked = {"seed": 7, "max_tokens": 4, "thinking": {"paths": 2, "max_path_tokens": 12}}

    def answer() -> str:
        url = f"{tiny_server.url}/v1/chat/completions"
        body = chat(**asked)
        headers = {"content-type": "application/json"}
        response = httpx.post(url, content=body, headers=headers, timeout=60)
        assert response.status_code == 200
        text: str = response.json()["choices"][0]["message"]["reasoning"]
        return text

    before = answer()
    yield tiny_server
    wait_until(lambda: tiny_server.metric(IN_USE) == 0)
    wait_until(lambda: tiny_server.metric("parathinker_answers_running") == 0)
    assert answer() == before
    assert httpx.get(f"{tiny_server.url}/health").json()["status"] == "ready"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b'{"model": "tiny", "messages": "\xc3\x28"}',
        b"\x00" * 1000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"thinking":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"model": "tiny", "messages": ' + b"[" * 10_000,
        chat()[:-1],
        chat() + b"trailing",
        b'{"seed": ' + b"9" * 100_000 + b"}",
    ],
    ids=["utf8", "text", "zeros", "lists", "objects", "open", "cut", "trailing", "number"],
)
def test_a_malformed_body_is_a_clients_error(well: ServerProcess, content: bytes) -> None:
    with connected(well) as connection:
        connection.sendall(request(content))
        assert status(connection) == 400


def test_a_large_body_is_refused_before_it_is_read(well: ServerProcess) -> None:
    with connected(well) as connection:
        head = request(b"").replace(b"Content-Length: 0", b"Content-Length: 99999999999")
        connection.sendall(head)
        assert status(connection) == 413
    with connected(well) as connection:
        head = request(b"").replace(b"Content-Length: 0", b"Content-Length: " + b"9" * 30)
        connection.sendall(head)
        assert status(connection) in (400, 413)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Flood: 1\r\n" * 100_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nnot-a-length\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["headers", "header", "path", "tls", "version", "length", "chunk", "smuggling"],
)
def test_a_broken_head_is_a_clients_error(well: ServerProcess, head: bytes) -> None:
    with connected(well) as connection:
        try:
            connection.sendall(head)
        except (BrokenPipeError, ConnectionResetError):
            return  # it hung up while the flood was still coming
        found = status(connection)
        assert found is None or 400 <= found < 500


def test_halves_of_requests_are_left_alone(well: ServerProcess) -> None:
    whole = request(chat())
    for end in (1, 20, whole.index(b"\r\n\r\n") + 2, len(whole) - 5):
        with connected(well) as connection:
            connection.sendall(whole[:end])
            connection.shutdown(socket.SHUT_WR)
            found = status(connection)
            assert found is None or 400 <= found < 500


def test_heads_that_drip_hold_up_nobody(well: ServerProcess) -> None:
    connections = [socket.create_connection(address(well)) for _ in range(200)]
    try:
        for connection in connections:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0")
        began = time.monotonic()
        assert httpx.get(f"{well.url}/health").status_code == 200
        assert time.monotonic() - began < 5
    finally:
        for connection in connections:
            connection.close()


def test_requests_one_behind_the_other_are_answered_in_order(well: ServerProcess) -> None:
    with connected(well) as connection:
        connection.sendall(request(b"broken") + request(chat(tools=[]), "Connection: close"))
        data = connection.makefile("rb").read()
    assert data.count(b"HTTP/1.1 400") == 2
    assert data.index(b"invalid_json") < data.index(b"unsupported_parameter")


@pytest.mark.slow
def test_five_hundred_clients_that_vanish_leave_nothing_behind(
    well: ServerProcess, measured: Callable[..., None]
) -> None:
    before = resident_mib(well)

    def vanish() -> None:
        for turn in range(50):
            with connected(well) as connection:
                connection.sendall(request(chat(**LONG, stream=turn % 2 == 0)))
                # Some leave while they wait, some in mid-stream, one by a reset.
                if turn % 2 == 0:
                    connection.recv(1 + 997 * turn % 5000)
                else:
                    time.sleep(0.01 * (turn % 5))
                if turn % 3 == 0:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    threads = [threading.Thread(target=vanish) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = time.monotonic()
    wait_until(lambda: well.metric("parathinker_answers_running") == 0)
    wait_until(lambda: well.metric(IN_USE) == 0)
    measured("seconds until 500 vanished clients' memory is free", time.monotonic() - left)
    measured("MiB that 500 vanished clients left", resident_mib(well) - before)
    assert resident_mib(well) - before < 200


def address(server: ServerProcess) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def resident_mib(server: ServerProcess) -> float:
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)
