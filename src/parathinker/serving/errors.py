"""Errors in OpenAI's shape, whatever went wrong: the request, the engine, the time, the server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from parathinker.errors import ParaThinkerError, UsageError

_INVALID = "invalid_request_error"
_IDENTIFIER = re.compile(r"[a-z_]+")
_UNION_TAGS = {"str", "int", "float", "bool", "none", "literal"}
_FIELDS = {
    "paths": "thinking.paths",
    "max_paths": "thinking.paths",
    "max_path_tokens": "thinking.max_path_tokens",
    "rounds": "thinking.rounds",
    "termination": "thinking.termination",
    "max_summary_tokens": "max_completion_tokens",
    "summary_stop": "stop",
}
"""What clients call a field of ``ThinkingParams``, where that differs."""


@dataclass(eq=False)
class ApiError(Exception):
    """What a client is told instead of an answer."""

    status: int
    message: str
    kind: str = _INVALID
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """The whole response."""
        return JSONResponse(self.body(), self.status, self.headers)


def invalid(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """The request asks for something that cannot be."""
    return ApiError(400, message, param=param, code=code)


def unknown_model(asked: str, served: str) -> ApiError:
    """Another model than the one served."""
    text = f"The model {shortened(asked)} does not exist here; this server has {served!r}"
    return ApiError(404, text, param="model", code="model_not_found")


def bad_key(given: bool) -> ApiError:
    """A key is wrong or missing."""
    wrong = "Incorrect API key provided" if given else "No API key provided"
    text = f"{wrong}; send one as 'Authorization: Bearer KEY'"
    return ApiError(401, text, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def too_large(limit: int) -> ApiError:
    """The body is longer than allowed; what is left of it is not read."""
    text = f"The request's body has more than {limit} bytes"
    return ApiError(413, text, code="request_too_large", headers={"Connection": "close"})


def body_too_slow(seconds: float) -> ApiError:
    """The body did not arrive."""
    text = f"The request's body did not arrive within {seconds:g} s"
    return ApiError(408, text, code="request_timeout", headers={"Connection": "close"})


def too_many(limit: int) -> ApiError:
    """The queue is full."""
    text = f"{limit} requests are waiting already; try again soon"
    code = "rate_limit_exceeded"
    return ApiError(429, text, "rate_limit_error", code=code, headers={"Retry-After": "1"})


def timed_out(seconds: float) -> ApiError:
    """The answer took too long."""
    return ApiError(504, f"No answer within {seconds:g} s", "timeout_error", code="timeout")


def unavailable(why: str) -> ApiError:
    """Not ready yet, or not any more."""
    headers = {"Retry-After": "2"}
    return ApiError(503, why, "service_unavailable_error", code="unavailable", headers=headers)


def broken_down() -> ApiError:
    """The engine takes nothing any more."""
    return unavailable("The engine has failed; the server has to be started again")


def internal() -> ApiError:
    """Something unforeseen, of which the log knows more."""
    text = "The server failed on this request; its log says more under the request's id"
    return ApiError(500, text, "server_error", code="internal_error")


def from_engine(error: Exception, prompt: str = "messages") -> ApiError:
    """What a client is told of an error of the engine.

    Args:
        prompt: the parameter that holds what was asked.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UsageError):
        text = str(error)
        word = text.split(" ", 1)[0]
        too_long = "too long:" in text
        code = "context_length_exceeded" if too_long else "invalid_value"
        about_prompt = too_long or "question" in text or "chat template" in text
        param = prompt if about_prompt else None
        if "_" in word or word in _FIELDS:
            param = _FIELDS.get(word, word)
        return invalid(text, param, code)
    if isinstance(error, ParaThinkerError):
        text = "The engine failed on this request; the server's log says more under its id"
        return ApiError(500, text, "server_error", code="engine_error")
    return internal()


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing that a body's schema does not allow, by name."""
    # Of a union's branches, the one that went deepest is what the client meant.
    found = max(errors, key=lambda error: len(error["loc"]))
    kind, param = found["type"], field_name(found["loc"])
    if kind == "json_invalid":
        return invalid(f"The body is not valid JSON: {found['ctx']['error']}", code="invalid_json")
    if param is None:
        return invalid("Send a JSON object, with 'Content-Type: application/json'")
    if kind == "extra_forbidden":
        return invalid(f"Unknown parameter: {shortened(param)}", param, "unknown_parameter")
    if kind == "none_required":
        text = f"{param!r} is not supported by this server; leave it out"
        return invalid(text, param, "unsupported_parameter")
    if kind == "missing":
        return invalid(f"Missing parameter: {param!r}", param, "missing_required_parameter")
    return invalid(f"{param}: {found['msg']}", param)


def field_name(location: Sequence[str | int]) -> str | None:
    """Where in the body, as in ``messages[0].content``; None for the body as a whole."""
    name = ""
    for part in location[1:]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif _IDENTIFIER.fullmatch(part) and part not in _UNION_TAGS:
            name += f".{part}" if name else part
        elif not name:
            name = part
    return name[:200].encode("utf-8", "replace").decode() or None


def shortened(text: str) -> str:
    """A client's text as it may be said back: not much of it, and valid Unicode."""
    sound = text.encode("utf-8", "replace").decode()
    return repr(sound if len(sound) <= 100 else sound[:100] + "…")
