"""A teacher to test against: a real HTTP server that speaks the OpenAI protocol, and misbehaves.

``with TeacherServer() as server`` answers at ``server.url`` until the block ends. What it answers
is a function of the question and the seed; ``server.behave`` may say otherwise for each request.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 10, 20
"""What every answer says it cost."""
KEY = "a-key-that-nobody-should-see"


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    question: str
    seed: int | None
    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    before: int
    """How often this question came with this seed before."""


@dataclass(frozen=True)
class Reply:
    """What to do about a request."""

    body: Any = None
    """As JSON; a text is sent as it is."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    """Close the connection without a word."""


def thought(question: str, seed: int | None) -> str:
    """What the teacher thinks about a question with a seed."""
    return f"I think about {question} with {seed}."


def said(question: str) -> str:
    """What it says then."""
    return f"The answer to {question}"


def message(style: str, reasoning: str, answer: str) -> dict[str, Any]:
    """A message with both, in the style of one kind of endpoint."""
    if style in ("reasoning", "reasoning_content"):
        return {"role": "assistant", "content": answer, style: reasoning}
    content: Any = {
        "think": f"<think>\n{reasoning}\n</think>\n\n{answer}",
        "unopened": f"{reasoning}\n</think>\n\n{answer}",
        "unclosed": f"<think>\n{reasoning}",
        "harmony": f"<|channel|>analysis<|message|>{reasoning}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{answer}<|return|>",
        "parts": [
            {"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]},
            {"type": "text", "text": answer},
        ],
        "plain": answer,
    }[style]
    return {"role": "assistant", "content": content}


def completion(asked: Asked, style: str = "reasoning", finish_reason: str = "stop") -> Reply:
    """An ordinary answer."""
    both = (thought(asked.question, asked.seed), said(asked.question))
    choice = {"index": 0, "message": message(style, *both), "finish_reason": finish_reason}
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    }
    return Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": asked.body["model"],
            "choices": [choice],
            "usage": usage,
        }
    )


def error(status: int, text: str, headers: dict[str, str] | None = None, **more: str) -> Reply:
    """An error in OpenAI's shape."""
    return Reply({"error": {"message": text, "type": "error", **more}}, status, headers or {})


class TeacherServer:
    """The server; see the top of this file.

    Args:
        behave: what to do about a request; None answers in the ordinary way.
        delay_s: how long every answer takes at least.
    """

    def __init__(
        self, behave: Callable[[Asked], Reply | None] | None = None, delay_s: float = 0.0
    ) -> None:
        self.behave = behave or (lambda asked: None)
        self.delay_s = delay_s
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._counts: Counter[tuple[str, int | None]] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> TeacherServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def die(self) -> None:
        """Answer nobody any more: connections break, and no new ones can be made."""
        self.behave = lambda asked: Reply(drop=True)
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counter[tuple[str, int | None]]:
        """How often each question was asked with each seed."""
        with self._lock:
            return Counter(self._counts)

    def wait_for(self, requests: int, timeout_s: float = 30.0) -> None:
        """Return when so many requests have come."""
        end = time.monotonic() + timeout_s
        while len(self.asked) < requests:
            assert time.monotonic() < end, f"{len(self.asked)} of {requests} requests came"
            time.sleep(0.005)

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        """Note a request and decide about it."""
        question = body["messages"][-1]["content"]
        key = (question, body.get("seed"))
        with self._lock:
            asked = Asked(*key, body, headers, time.monotonic(), self._counts[key])
            self._counts[key] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.asked.append(asked)
        reply = self.behave(asked) or completion(asked)
        self._closing.wait(max(self.delay_s, reply.delay_s))
        with self._lock:
            self._at_once -= 1
        return reply


def _handler(server: TeacherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path != "/v1/chat/completions":
                reply = error(404, f"no such path: {self.path}")
            else:
                reply = server.take(body, {k.lower(): v for k, v in self.headers.items()})
            if reply.drop:
                self.close_connection = True
                return
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            content = text.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            # Headers and body in one packet: two would wait for each other for 40 ms.
            self._headers_buffer.append(b"\r\n" + content)
            try:
                self.flush_headers()
            except OSError:
                self.close_connection = True  # whoever asked is gone

        def log_message(self, *_: object) -> None:
            pass

    return Handler
