"""Middleware for what clients may do to a connection: send too much, too slowly, or go away."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parathinker.serving.errors import body_too_slow, too_large
from parathinker.serving.logs import Record

_LOOK_AGAIN_S = 1.0


class Connection:
    """Reads a body up to a limit, and ends a request as soon as nobody waits for its answer.

    Whatever a request is doing then (waiting for its turn, thinking, sending) is cancelled, and is
    done with when this returns.

    Args:
        limit: bytes of a body; more is refused when they arrive, whatever was announced.
        body_timeout_s: for a body to arrive.
        send_timeout_s: for a client to take what it is sent.
    """

    def __init__(
        self, app: ASGIApp, limit: int, body_timeout_s: float, send_timeout_s: float
    ) -> None:
        self._app, self._limit = app, limit
        self._body_timeout_s, self._send_timeout_s = body_timeout_s, send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            await too_large(self._limit).response()(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(receive), self._body_timeout_s)
        except asyncio.TimeoutError:
            await body_too_slow(self._body_timeout_s).response()(scope, receive, send)
            return
        record: Record = scope["state"]["record"]
        if body is None:
            record.cancelled = True
        elif len(body) > self._limit:
            await too_large(self._limit).response()(scope, receive, send)
        else:
            await self._serve(scope, body, receive, send, record)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or as much of it as shows that it is too long; None if the client left."""
        body = bytearray()
        while len(body) <= self._limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)

    async def _serve(
        self, scope: Scope, body: bytes, receive: Receive, send: Send, record: Record
    ) -> None:
        unread, answered = [body], False

        async def give_body() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.Event().wait()  # who leaves is seen to below
            raise AssertionError

        async def give_up_on_idle(message: Message) -> None:
            nonlocal answered
            timer = loop.call_later(self._send_timeout_s, leave)
            try:
                await send(message)
            finally:
                timer.cancel()
            is_body = message["type"] == "http.response.body"
            answered |= is_body and not message.get("more_body", False)

        def leave() -> None:
            record.cancelled = True
            serving.cancel()

        async def watch() -> None:
            # At bytes behind the request the web server stops reading, and would not see its client
            # leave; asking again makes it read on. Ever more rarely: it keeps what it reads.
            pause = _LOOK_AGAIN_S
            while True:
                try:
                    message = await asyncio.wait_for(receive(), pause)
                except asyncio.TimeoutError:
                    pause *= 2
                    continue
                if message["type"] == "http.disconnect":
                    return

        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(_coroutine(self._app, scope, give_body, give_up_on_idle))
        watching = asyncio.create_task(watch())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            # Behind the last message a client looks gone, too: all was said, and who said it tidies
            # up undisturbed.
            if not (serving.done() or answered):
                leave()
            await asyncio.wait({serving})
        finally:
            # Also where the server itself is being ended.
            watching.cancel()
            serving.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)
        if not serving.cancelled():
            serving.result()


async def _coroutine(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
