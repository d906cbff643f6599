"""From a request's body to questions and :class:`ThinkingParams`, the server's limits applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parathinker.params import AUTO, DEFAULT_AUTO_PATHS, ThinkingParams
from parathinker.prompt import RawPrompt
from parathinker.serving.backend import ModelCard
from parathinker.serving.errors import invalid, unknown_model
from parathinker.serving.schema import (
    INT64,
    ChatRequest,
    CompletionRequest,
    Message,
    Sampling,
    Thinking,
)
from parathinker.serving.settings import ServeSettings

if TYPE_CHECKING:
    from parathinker import Question

_LEAST_TOP_P = 1e-9
"""OpenAI allows 0, which leaves the likeliest token only; so does this."""


@dataclass(frozen=True)
class Wanted:
    """One answer that a request asks for."""

    question: Question
    params: ThinkingParams


@dataclass(frozen=True)
class Order:
    """All that a request asks for."""

    answers: tuple[Wanted, ...]
    prompts: int
    """How many prompts they answer, each of them equally often."""
    source: str
    """The parameter that holds them."""
    stop: tuple[str, ...]
    show: str
    """How much of the thinking to send: ``none``, ``summary`` or ``paths``."""
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    """How many likeliest tokens to report beside each of the answer's; None: no logprobs."""


def chat_order(body: ChatRequest, card: ModelCard, settings: ServeSettings) -> Order:
    """What a chat request asks for.

    Raises:
        ApiError: another model, more than the limits allow, or messages that the model cannot take.
    """
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs: needs logprobs: true", "top_logprobs")
    asked = body.max_completion_tokens or body.max_tokens
    if asked != (body.max_tokens or asked):
        text = "max_tokens and max_completion_tokens differ; give one of them"
        raise invalid(text, "max_tokens")
    top_logprobs = (body.top_logprobs or 0) if body.logprobs else None
    name = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
    question = _chat_question(body.messages, card)
    show = (body.thinking and body.thinking.show) or settings.show
    return _order(body, [question], card, settings, show, top_logprobs, (name, asked))


def completion_order(body: CompletionRequest, card: ModelCard, settings: ServeSettings) -> Order:
    """What a completion request asks for: text that goes on, its thinking shown only if asked for.

    Raises:
        ApiError: as :func:`chat_order`.
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    show = (body.thinking and body.thinking.show) or "none"
    questions = [RawPrompt(prompt) for prompt in prompts]
    length = ("max_tokens", body.max_tokens)
    return _order(body, questions, card, settings, show, None, length)


def _order(
    body: Sampling,
    questions: Sequence[Question],
    card: ModelCard,
    settings: ServeSettings,
    show: str,
    top_logprobs: int | None,
    length: tuple[str, int | None],
) -> Order:
    if body.model != card.name:
        raise unknown_model(body.model, card.name)
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options: needs stream: true", "stream_options")
    n = body.n or 1
    if n * len(questions) > settings.limit_choices:
        raise invalid(
            f"n: a request may have {settings.limit_choices} answers; this one asks for "
            f"{n * len(questions)}",
            "n",
        )
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    params = _params(body, stop, card, settings, top_logprobs, length)
    answers = []
    for index in range(n * len(questions)):
        # Python's remainder: a negative seed is a seed like any other.
        seed = None if body.seed is None else (body.seed + index) % INT64
        one = dataclasses.replace(params, seed=seed)
        answers.append(Wanted(questions[index // n], one))
    options = body.stream_options
    return Order(
        answers=tuple(answers),
        prompts=len(questions),
        source="messages" if isinstance(body, ChatRequest) else "prompt",
        stop=stop,
        show=show,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        top_logprobs=top_logprobs,
    )


def _params(
    body: Sampling,
    stop: tuple[str, ...],
    card: ModelCard,
    settings: ServeSettings,
    top_logprobs: int | None,
    length: tuple[str, int | None],
) -> ThinkingParams:
    """All but the seed, which is each answer's own."""
    thinking = body.thinking or Thinking()
    paths = _limited("thinking.paths", thinking.paths, card.max_paths) or card.default_paths
    auto_paths = min(DEFAULT_AUTO_PATHS, card.max_paths) if paths == AUTO else None
    path_tokens = _limited(
        "thinking.max_path_tokens", thinking.max_path_tokens, settings.limit_path_tokens
    )
    answer_tokens = _limited(*length, settings.limit_answer_tokens)
    rounds = _limited("thinking.rounds", thinking.rounds, settings.limit_rounds)
    termination = thinking.termination or settings.termination
    if paths == AUTO and thinking.termination is None:
        termination = None  # with auto, all paths run until they close
    temperature = settings.temperature if body.temperature is None else body.temperature
    return ThinkingParams(
        paths=paths,
        max_paths=auto_paths,
        max_path_tokens=path_tokens or card.path_length.chosen,
        max_summary_tokens=answer_tokens or card.answer_length.chosen,
        termination=termination,
        rounds=rounds or settings.rounds,
        temperature=temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, _LEAST_TOP_P),
        top_k=body.top_k or 0,
        min_p=body.min_p or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logprobs=True,  # tell what the model chose from what it was forced to say
        top_logprobs=top_logprobs or 0,
        summary_stop=stop,
    )


def _limited(name: str, asked: int | str | None, limit: int | None) -> Any:
    """What was asked for, if the limit allows it; words such as ``auto`` have none."""
    if isinstance(asked, int) and limit is not None and asked > limit:
        raise invalid(f"{name}: should be at most {limit} here; got {asked}", name)
    return asked


def _chat_question(messages: Sequence[Message], card: ModelCard) -> Question:
    if card.chat:
        # What newer clients call a developer is the system to every chat template.
        return [
            {"role": "system" if one.role == "developer" else one.role, "content": one.text}
            for one in messages
        ]
    if len(messages) != 1 or messages[0].role != "user":
        raise invalid(
            f"messages: {card.name} has no chat template, so it takes exactly one message, the "
            f"user's; got {len(messages)} ({', '.join(one.role for one in messages[:8])})",
            "messages",
        )
    return messages[0].text
