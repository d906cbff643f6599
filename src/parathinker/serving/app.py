"""The application: endpoints and page, behind the guards that every request passes."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from parathinker import __version__
from parathinker.errors import ParaThinkerError
from parathinker.serving.auth import Guard
from parathinker.serving.connection import Connection
from parathinker.serving.endpoints import api, operations
from parathinker.serving.errors import ApiError, from_engine, from_validation
from parathinker.serving.host import Host
from parathinker.serving.logs import note_failure
from parathinker.serving.observe import Observe
from parathinker.serving.page import add_page
from parathinker.serving.settings import ServeSettings, is_loopback, read_keys

_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def create_app(host: Host) -> FastAPI:
    """Everything that answers requests, for one model.

    Raises:
        UsageError: the file of API keys cannot be read.
    """
    settings = host.settings
    keys = read_keys(settings)
    app = FastAPI(
        title="ParaThinker",
        version=__version__,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        exception_handlers={
            ApiError: _on_api_error,
            ParaThinkerError: _on_engine_error,
            RequestValidationError: _on_validation_error,
            HTTPException: _on_http_error,
        },
    )
    app.state.host = host
    app.include_router(api)
    app.include_router(operations)
    add_page(app)
    # The last one added is the first to see a request.
    app.add_middleware(
        Connection,
        limit=settings.limit_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        send_timeout_s=settings.send_timeout_s,
    )
    app.add_middleware(Guard, keys=keys, hosts=_hosts(settings, bool(keys)))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client for browsers sends several of its own
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(Observe, metrics=host.metrics)
    return app


def _hosts(settings: ServeSettings, keys: bool) -> list[str]:
    """Names that requests may call the server by; none allows all."""
    if keys or not is_loopback(settings.host):
        return settings.allowed_hosts
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return [*settings.allowed_hosts, own, *_LOCAL_NAMES]


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.state.record.code = error.code
    return error.response()


async def _on_engine_error(request: Request, error: Exception) -> Response:
    told = from_engine(error)
    note_failure(error, told, request.state.record.id)
    return await _on_api_error(request, told)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_api_error(request, from_validation(error.errors()))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """What the router says: no such path, no such method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    messages = {
        400: "The body is not valid JSON in UTF-8, or nested too deeply",
        404: f"There is nothing at {path!r}",
        405: f"{request.method} is not possible at {path!r}",
    }
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_json")
    headers = dict(error.headers or {})
    return await _on_api_error(
        request, ApiError(error.status_code, message, code=code, headers=headers)
    )
