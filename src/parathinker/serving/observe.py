"""Middleware around everything: request ids, headers, one log line, counts, and no bare errors."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parathinker.serving.errors import internal
from parathinker.serving.logs import Record
from parathinker.serving.metrics import Metrics

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_CLIENT_LEFT = 499
"""In logs and counts: nobody was there to be answered."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
log = logging.getLogger(__name__)


class Observe:
    """Sees a request from its first byte to its last."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        record = Record(name, scope["method"])
        scope.setdefault("state", {})["record"] = record
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = record.id
                for header, value in _HEADERS.items():
                    headers.setdefault(header, value)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            log.exception("a request failed", extra={"fields": {"request_id": record.id}})
            record.code = "internal_error"
            if not status:
                await internal().response()(scope, receive, noting)
        finally:
            self._note(scope, record, status or _CLIENT_LEFT)

    def _note(self, scope: Scope, record: Record, status: int) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.duration.labels(route).observe(time.perf_counter() - record.started)
        if record.cancelled:
            self._metrics.cancelled.inc()
        if record.code == "timeout":
            self._metrics.timed_out.inc()
        record.write(route, status)
