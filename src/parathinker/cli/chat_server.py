"""A model behind a server, asked with OpenAI's client; its stream is told as the engine's is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from parathinker.answer import (
    Answer,
    Done,
    Path,
    PathEnd,
    PathToken,
    Round,
    StreamEvent,
    Summary,
    SummaryToken,
    Timings,
    Usage,
)
from parathinker.errors import EngineError, MissingExtraError, UsageError
from parathinker.params import AUTO, ThinkingParams

KEY_VARIABLE = "PARATHINKER_API_KEY"
UNKNOWN_TOKEN = -1
"""Stands for each token: a server sends texts and how many tokens they are made of."""
_SETTINGS = ("paths", "termination", "rounds", "max_path_tokens", "temperature")
"""What of a server's defaults a chat begins with."""


class ServerPartner:
    """See :class:`~parathinker.cli.chat_partners.Partner`.

    Args:
        url: of the server, with or without ``/v1``.
        model: one of its models; by default the first.

    Raises:
        MissingExtraError: OpenAI's client is not installed.
        UsageError: the URL is none, the server is of another kind, or does not have the model.
        EngineError: the server cannot be reached or refuses.
    """

    def __init__(self, url: str, model: str | None) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("chatting with a server", "serve") from error
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                f"server should be an address such as http://127.0.0.1:8000; got {url!r}"
            )
        base = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._client = openai.OpenAI(base_url=base, api_key=os.environ.get(KEY_VARIABLE) or "none")
        with self._failures():
            models = {model.id: model for model in self._client.models.list()}
        name = model if model is not None else next(iter(models), "")
        if name not in models:
            raise UsageError(f"{url} has no model {name!r}; it has {', '.join(models) or 'none'}")
        about = (models[name].model_extra or {}).get("parathinker")
        if about is None:
            raise UsageError(
                f"{url} is no server of parathinker's: its models do not say how to think"
            )
        self.name, self.task, self.remembers = name, about["task"], bool(about["chat"])
        self._defaults: Mapping[str, Any] = about["defaults"]
        self._said: list[Any] = []

    def params(self, given: Mapping[str, Any]) -> ThinkingParams:
        """See :class:`~parathinker.cli.chat_partners.Partner`."""
        params = {**{name: self._defaults[name] for name in _SETTINGS}, **given}
        if params["paths"] == AUTO and "termination" not in given:
            del params["termination"]  # with auto, all paths run until they close
        return ThinkingParams(**params)

    def ask(self, question: str, params: ThinkingParams, show: str) -> Iterator[StreamEvent]:
        """See :class:`~parathinker.cli.chat_partners.Partner`."""
        try:
            question.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the question is not valid UTF-8 text: {error.reason}") from error
        message = {"role": "user", "content": question}
        with_usage: Any = {"include_usage": True}
        telling = _Telling(params)
        with self._failures():
            stream = self._client.chat.completions.create(
                model=self.name,
                messages=[*self._said, message],
                stream=True,
                stream_options=with_usage,
                seed=params.seed,
                temperature=params.temperature,
                extra_body={"thinking": {**_thinking(params), "show": show}},
            )
            with stream:
                for chunk in stream:
                    yield from telling.events(chunk.model_dump())
        answer = telling.answer()
        if self.remembers:
            self._said += [message, {"role": "assistant", "content": answer.text}]
        yield Done(answer)

    def reset(self) -> None:
        """See :class:`~parathinker.cli.chat_partners.Partner`."""
        self._said = []

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What goes wrong on the way to the server and back, in this package's errors."""
        import httpx
        import openai

        try:
            yield
        except openai.BadRequestError as error:
            raise UsageError(_message(error)) from error
        except openai.AuthenticationError as error:
            text = f"{_message(error)}; this command takes the key from {KEY_VARIABLE}"
            raise EngineError(text) from error
        except openai.APIConnectionError as error:
            why = error.__cause__ or error
            raise EngineError(f"{self._client.base_url} does not answer: {why}") from error
        except openai.APIError as error:
            raise EngineError(_message(error)) from error
        except httpx.HTTPError as error:
            raise EngineError(f"the server's answer broke off: {error}") from error


@dataclass
class _Heard:
    """A path or a summary as far as it came."""

    text: str = ""
    tokens: int = 0
    finish_reason: str = "cut"


@dataclass
class _HeardRound:
    paths: dict[int, _Heard] = field(default_factory=dict)
    summary: _Heard = field(default_factory=lambda: _Heard(finish_reason="stop"))


class _Telling:
    """Turns a stream's chunks into the engine's events, and all of them into an answer."""

    def __init__(self, params: ThinkingParams) -> None:
        self._params = params
        self._rounds = [_HeardRound() for _ in range(params.rounds)]
        self._end: Mapping[str, Any] | None = None
        self._began = time.perf_counter()

    def events(self, chunk: Mapping[str, Any]) -> Iterator[StreamEvent]:
        """What a chunk says."""
        if chunk.get("usage"):
            self._end = chunk
        for choice in chunk["choices"]:
            delta = choice["delta"]
            summary = self._rounds[-1].summary
            if choice["finish_reason"]:
                summary.finish_reason = choice["finish_reason"]
            if delta.get("thinking"):
                yield from self._thinking(delta["thinking"], delta.get("reasoning") or "")
            elif delta.get("content"):
                summary.text += delta["content"]
                yield SummaryToken(UNKNOWN_TOKEN, delta["content"], None, self._params.rounds)

    def answer(self) -> Answer:
        """The whole.

        Raises:
            EngineError: the stream ended before its end.
        """
        if self._end is None:
            raise EngineError("the server's answer broke off")
        usage, timings = self._end["usage"], self._end["timings"]
        thought = usage["completion_tokens_details"]["reasoning_tokens"]
        self._rounds[-1].summary.tokens = usage["completion_tokens"] - thought
        summary_tokens = sum(one.summary.tokens for one in self._rounds)
        rounds = [_round(one) for one in self._rounds]
        return Answer(
            text=rounds[-1].summary.text,
            paths=rounds[-1].paths,
            summary=rounds[-1].summary,
            rounds=rounds,
            prompt_token_ids=[],
            usage=Usage(
                prompt_tokens=usage["prompt_tokens"],
                path_tokens=usage["completion_tokens"] - summary_tokens,
                summary_tokens=summary_tokens,
                cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
                total_tokens=usage["total_tokens"],
            ),
            timings=Timings(**timings),
            params=self._params,
        )

    def _thinking(self, told: Mapping[str, Any], text: str) -> Iterator[StreamEvent]:
        number, path, event = told["round"], told["path"], told["event"]
        one = self._rounds[number - 1]
        heard = one.paths.setdefault(path, _Heard()) if path else one.summary
        if event == "end":
            heard.finish_reason = told["finish_reason"]
            yield PathEnd(path, heard.finish_reason, number)
        elif event == "token":
            heard.text += text
            heard.tokens += told["tokens"]
            # A token each, so that whoever counts events counts tokens.
            for piece in (text, *[""] * (told["tokens"] - 1)):
                if path:
                    yield PathToken(path, UNKNOWN_TOKEN, piece, None, number)
                else:
                    yield SummaryToken(UNKNOWN_TOKEN, piece, None, number)


def _round(heard: _HeardRound) -> Round:
    paths = [
        Path(number, path.text, [UNKNOWN_TOKEN] * path.tokens, [], path.finish_reason)
        for number, path in sorted(heard.paths.items())
    ]
    last = heard.summary
    summary = Summary(last.text.strip(), [UNKNOWN_TOKEN] * last.tokens, [], last.finish_reason)
    return Round(paths, summary)


def _thinking(params: ThinkingParams) -> dict[str, Any]:
    thinking = {
        "paths": params.paths,
        "termination": params.termination,
        "rounds": params.rounds,
        "max_path_tokens": params.max_path_tokens,
    }
    return {name: value for name, value in thinking.items() if value is not None}


def _message(error: Any) -> str:
    """What the server says of an error."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)
