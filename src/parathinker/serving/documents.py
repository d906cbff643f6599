"""Responses as the OpenAPI schema describes them; what is sent is made in ``responses``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """May have further fields."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), defer_build=True)


class ErrorDetails(Document):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(Document):
    """Any response that is not what was asked for."""

    error: ErrorDetails


class TokenDetails(Document):
    """Of completion tokens: those that are no part of the answer."""

    reasoning_tokens: int


class PromptDetails(Document):
    """Of prompt tokens: those that were still in memory."""

    cached_tokens: int


class UsageDocument(Document):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: TokenDetails
    prompt_tokens_details: PromptDetails


class PathDocument(Document):
    """One path."""

    path: int
    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "cut"]


class RoundDocument(Document):
    """One round of thinking."""

    paths: list[PathDocument]
    summary: str


class ThinkingDocument(Document):
    """All that was thought, with ``show: "paths"``."""

    rounds: list[RoundDocument]
    timings: dict[str, float]


class MessageDocument(Document):
    """An answer."""

    role: Literal["assistant"]
    content: str
    reasoning: str | None
    reasoning_content: str | None
    thinking: ThinkingDocument | None = None


class ChatChoiceDocument(Document):
    """One of several answers."""

    index: int
    message: MessageDocument
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatDocument(Document):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoiceDocument]
    usage: UsageDocument
    timings: dict[str, float]


class CompletionChoiceDocument(Document):
    """One of several answers."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]


class CompletionDocument(Document):
    """A text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoiceDocument]
    usage: UsageDocument
    timings: dict[str, float]


class ModelDocument(Document):
    """The model; what is particular to it stands under ``parathinker``."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parathinker: dict[str, Any]


class ModelsDocument(Document):
    """All models: one."""

    object: Literal["list"]
    data: list[ModelDocument]


class HealthDocument(Document):
    """How the server stands."""

    status: Literal["live", "loading", "ready", "failed", "stopping"]
