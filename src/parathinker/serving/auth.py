"""Who may ask: API keys, and without keys only those who really mean this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from parathinker.serving.errors import ApiError, bad_key

PROTECTED = ("/v1/", "/metrics")
"""Where a key is asked for; the page and the health checks are open."""


class Guard:
    """Middleware that lets a request pass, or answers it with an error before its body is read.

    Args:
        keys: any of them opens; with none, everything is open.
        hosts: names that requests may call the server by; empty allows all. Where no key is asked
            for, this keeps web pages out that had their own name point at this machine.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, {host.lower() for host in hosts}
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass or not."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            error = self._wrong_host(headers) or self._wrong_key(scope["path"], headers)
            if error is not None:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wrong_host(self, headers: Headers) -> ApiError | None:
        if not self._hosts or _host_name(headers.get("host", "")) in self._hosts:
            return None
        text = "This server does not go by the host name of the request; see --allowed-host"
        return ApiError(403, text, code="host_not_allowed")

    def _wrong_key(self, path: str, headers: Headers) -> ApiError | None:
        if not self._keys or not path.startswith(PROTECTED):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        offered = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        # All keys are compared, so that the time tells nothing about which one came close.
        found = False
        for key in self._keys:
            found |= hmac.compare_digest(key, offered)
        return None if found else bad_key(given=bool(offered))


def _host_name(header: str) -> str:
    """The host of a Host header, without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
