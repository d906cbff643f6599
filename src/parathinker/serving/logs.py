"""Logs as JSON, a line for each request; what users write and read is left out unless asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from parathinker.serving.choice import Choice
from parathinker.serving.errors import ApiError
from parathinker.serving.metrics import Meter

log = logging.getLogger("parathinker.serving")


class JsonLines(logging.Formatter):
    """One JSON object a line.

    Args:
        text: whether errors' own messages may be written: they may quote a user.
    """

    def __init__(self, text: bool) -> None:
        super().__init__()
        self._text = text

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line |= self._told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)

    def _told(self, error: BaseException | None) -> dict[str, Any]:
        """An error, where it came from, and the error behind it."""
        if error is None:
            return {}
        trace = traceback.extract_tb(error.__traceback__)
        cause = self._told(error.__cause__)
        return {
            "error": type(error).__name__,
            **({"error_message": str(error)} if self._text else {}),
            "trace": [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in trace],
            **({"cause": cause} if cause else {}),
        }


def note_failure(error: Exception, told: ApiError, request_id: str) -> None:
    """Log an error that is not a client's own, with the request that it came up in."""
    if told.status >= 500 and not isinstance(error, ApiError):
        fields = {"request_id": request_id}
        log.error("a request failed", exc_info=error, extra={"fields": fields})


def set_up(level: str, text: bool) -> None:
    """Send everything to standard error, the web server's own words included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(text))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("parathinker").setLevel(level.upper())


@dataclass
class Record:
    """What is known of a request when it is over."""

    id: str
    method: str
    started: float = field(default_factory=time.perf_counter)
    cancelled: bool = False
    """Its client left."""
    code: str | None = None
    """Of the error that it was answered with."""
    thinking: dict[str, Any] = field(default_factory=dict)
    """What the engine did for it."""

    def note(self, choices: Sequence[Choice], meter: Meter) -> None:
        """Take down what the engine did."""
        done = [choice.answer for choice in choices if choice.answer is not None]
        self.thinking |= {
            "answers": len(choices),
            "finished": len(done),
            "first_token_s": _rounded(meter.first_token_s),
            "first_answer_token_s": _rounded(meter.first_answer_token_s),
            "prompt_tokens": sum(answer.usage.prompt_tokens for answer in done),
            "cached_tokens": sum(answer.usage.cached_tokens for answer in done),
            "path_tokens": sum(answer.usage.path_tokens for answer in done),
            "summary_tokens": sum(answer.usage.summary_tokens for answer in done),
        }

    def write(self, route: str, status: int) -> None:
        """The request's line."""
        fields = {
            "request_id": self.id,
            "method": self.method,
            "route": route,
            "status": status,
            "seconds": _rounded(time.perf_counter() - self.started),
            **({"cancelled": True} if self.cancelled else {}),
            **({"code": self.code} if self.code else {}),
            **self.thinking,
        }
        # Who looks whether all is well does so every few seconds.
        level = logging.DEBUG if route.startswith(("/health", "/metrics")) else logging.INFO
        log.log(level, "request", extra={"fields": fields})


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
