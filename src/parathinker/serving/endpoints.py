"""The endpoints: each reads a request, has it thought about, and answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from parathinker.serving import documents as d
from parathinker.serving import responses
from parathinker.serving.errors import unknown_model
from parathinker.serving.host import READY, Host
from parathinker.serving.logs import Record
from parathinker.serving.metrics import CONTENT_TYPE
from parathinker.serving.responses import Head
from parathinker.serving.schema import ChatRequest, CompletionRequest
from parathinker.serving.stream import ChatChunks, Chunks, CompletionChunks, EventStream
from parathinker.serving.translation import Order, chat_order, completion_order

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": d.ErrorDocument},
    "5XX": {"model": d.ErrorDocument},
}
_UNREADY: dict[int | str, dict[str, Any]] = {503: {"model": d.HealthDocument}}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
api = APIRouter(prefix="/v1", responses=_ERRORS, tags=["OpenAI"])
operations = APIRouter(tags=["operations"])


@api.post("/chat/completions", responses={200: {"model": d.ChatDocument, "content": _STREAM}})
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer the last message of a chat, or stream the answer and the thinking behind it."""
    host = _host(request)
    _, card = host.model
    order = chat_order(body, card, host.settings)
    kind = "chat.completion.chunk" if order.stream else "chat.completion"
    head = Head.new("chatcmpl", kind, card.name)
    chunks = ChatChunks(order.top_logprobs is not None)
    return await _respond(request, order, head, chunks, responses.chat_completion)


@api.post("/completions", responses={200: {"model": d.CompletionDocument, "content": _STREAM}})
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Think about text as it is, without a chat template around it."""
    host = _host(request)
    _, card = host.model
    order = completion_order(body, card, host.settings)
    head = Head.new("cmpl", "text_completion", card.name)
    return await _respond(request, order, head, CompletionChunks(), responses.completion)


@api.get("/models", responses={200: {"model": d.ModelsDocument}})
async def models(request: Request) -> Response:
    """The model that this server has, with its defaults and limits."""
    host = _host(request)
    entry = responses.model_entry(host.model[1], host.created)
    return JSONResponse({"object": "list", "data": [entry]})


@api.get("/models/{name:path}", responses={200: {"model": d.ModelDocument}})
async def model(name: str, request: Request) -> Response:
    """The same, by its name."""
    host = _host(request)
    _, card = host.model
    if name != card.name:
        raise unknown_model(name, card.name)
    return JSONResponse(responses.model_entry(card, host.created))


@operations.get("/health/live", responses={200: {"model": d.HealthDocument}})
async def live() -> Response:
    """Whether the process answers at all."""
    return JSONResponse({"status": "live"})


@operations.get("/health/ready", responses={200: {"model": d.HealthDocument}, **_UNREADY})
@operations.get("/health", responses={200: {"model": d.HealthDocument}, **_UNREADY})
async def ready(request: Request) -> Response:
    """Whether requests are taken: not before the model is loaded, once the engine has failed, or
    during shutdown."""
    host = _host(request)
    return JSONResponse(host.health(), 200 if host.status == READY else 503)


@operations.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counts and states, for Prometheus."""
    return Response(await _host(request).exposition(), media_type=CONTENT_TYPE)


async def _respond(
    request: Request, order: Order, head: Head, chunks: Chunks, finished: Any
) -> Response:
    host, record = _host(request), _record(request)
    run = await host.begin(order, record)
    if order.stream:
        return EventStream(run, order, head, chunks, host.settings.stream_interval_ms / 1000)
    try:
        await run.finished()
    finally:
        await run.close()
    return JSONResponse(finished(head, order, run.choices))


def _host(request: Request) -> Host:
    host: Host = request.app.state.host
    return host


def _record(request: Request) -> Record:
    record: Record = request.state.record
    return record
