"""One OpenAI-compatible endpoint: a path asked for, and what every way of failing means.

The official client carries the request, and repeats it by itself, ``retries`` times: when nobody
listens or the connection breaks, on timeouts, and on 408, 409, 429 and 5xx. It waits 0.5 s, then
twice as long each time up to 8 s, less up to a quarter at random; or as long as ``Retry-After``
says (seconds or a date) if that is at most 120 s. A longer one it does not wait for but raises the
error at once; that wait, and the slower repetition after ``retries``, is the business of
:mod:`parathinker.data.teacher.endpoints`. All else is raised at once.
"""

from __future__ import annotations

import email.utils
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from parathinker.data.samples import Sample, SamplingSettings
from parathinker.data.teacher.asking import Ask, TeacherError
from parathinker.data.teacher.reasoning import split_reasoning
from parathinker.errors import MissingExtraError, UsageError

CONNECT_S = 10.0
MOST_CONNECTIONS = 1000
"""The client opens no more to one endpoint."""
NO_KEY = "none"
"""The client insists on a key; endpoints that need none pass over it."""
_STOP_STATUS = {401, 402, 404, 405}
"""A wrong key, an empty account, an unknown model or path: no other question would fare better."""
_RETRIED_STATUS = {408, 409, 429}
_MOST_OF_A_MESSAGE = 500


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and for which model. The key stays in the environment."""

    url: str
    model: str
    key_variable: str | None = None
    """The environment variable that holds the API key; None: no key is needed."""

    @classmethod
    def parse(cls, text: str, model: str | None, key_variable: str | None = None) -> Endpoint:
        """Read ``URL`` or ``URL=MODEL``.

        Raises:
            UsageError: no http address, no model, or a key where none should be.
        """
        url, _, own_model = text.partition("=")
        url, parts = url.rstrip("/"), urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"an endpoint should look like http://127.0.0.1:8000/v1 or URL=MODEL; got {text!r}"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                f"an endpoint's address should have no key, query or fragment in it; got one with "
                f"host {parts.hostname}. A key goes into an environment variable (--api-key-env)"
            )
        if not (own_model or model):
            raise UsageError(f"which model at {url}? Say --model NAME, or --endpoint {url}=NAME")
        return cls(url, own_model or str(model), key_variable)

    def key(self) -> str | None:
        """The API key.

        Raises:
            UsageError: the environment variable is not set.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UsageError(
                f"the environment variable {self.key_variable}, which should hold the API key of "
                f"{self.url}, is not set"
            )
        return key


class Refused(Exception):
    """The endpoint will not answer this question."""


class Declined(Exception):
    """The model would not answer it this time; with another seed it may."""


class Trouble(Exception):
    """It did not work this time, with this endpoint.

    Args:
        wait_s: how long the endpoint asked to be left alone.
        counts: whether the request itself may be at fault.
        slow: no answer came in time.
    """

    def __init__(
        self, message: str, wait_s: float = 0.0, counts: bool = True, slow: bool = False
    ) -> None:
        super().__init__(message)
        self.wait_s, self.counts, self.slow = wait_s, counts, slow


class ChatClient:
    """Asks one endpoint; any number of requests at once.

    Raises:
        MissingExtraError: the client library is not installed.
        UsageError: the key is not there.
    """

    def __init__(
        self, endpoint: Endpoint, settings: SamplingSettings, timeout_s: float, retries: int
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("asking a teacher", "data") from error
        self.endpoint, self._settings = endpoint, settings
        self._key = endpoint.key()
        self.answered_at: float | None = None
        """When the endpoint last answered, by ``time.monotonic``."""
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=self._key or NO_KEY,
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            max_retries=retries,
        )

    async def sample(self, ask: Ask) -> Sample:
        """Have one path thought.

        Raises:
            Refused: the endpoint will not answer this question.
            Declined: the model would not, with this seed.
            Trouble: it did not work; it may do so later, or elsewhere.
            TeacherError: it will not work with any question.
        """
        import openai

        began = time.monotonic()
        try:
            # One completion a request (n=1): each path has a seed of its own, and is kept or asked
            # again by itself. The prompt that they share costs little where prefixes are cached.
            raw = await self._client.chat.completions.with_raw_response.create(**self._body(ask))
            answer = raw.http_response.text
        except openai.APIConnectionError as error:
            raise self._broken(error) from error
        except openai.APIStatusError as error:
            raise self._meaning(error) from error
        sample = self._read(answer, ask, time.monotonic() - began)
        self.answered_at = time.monotonic()
        return sample

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def _body(self, ask: Ask) -> dict[str, Any]:
        """The request; what is left open is left out, for endpoints that know few fields."""
        settings = self._settings
        system = settings.system_prompt
        user = settings.prompt.replace("{question}", ask.question.question)
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [
                *([{"role": "system", "content": system}] if system is not None else []),
                {"role": "user", "content": user},
            ],
            "n": 1,
            "temperature": settings.temperature,
        }
        if settings.top_p != 1.0:
            body["top_p"] = settings.top_p
        if settings.max_tokens is not None:
            body["max_tokens"] = settings.max_tokens
        if ask.seed is not None:
            body["seed"] = ask.seed
        if settings.extra:
            body["extra_body"] = settings.extra
        return body

    def _read(self, text: str, ask: Ask, seconds: float) -> Sample:
        """The sample in a response's body, which may be anything."""
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            message = choice["message"]
            reasoning, answer = split_reasoning(message)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise Trouble(
                self._clean(f"the answer is no chat completion: {' '.join(text.split())!r}")
            ) from error
        if message.get("refusal"):
            raise Declined(self._clean(str(message["refusal"])))
        usage = body.get("usage")
        return Sample(
            question_id=ask.question.id,
            index=ask.index,
            reasoning=reasoning,
            answer=answer,
            finish_reason=str(choice.get("finish_reason") or "unknown"),
            model=self.endpoint.model,
            endpoint=self.endpoint.url,
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            seconds=seconds,
            seed=ask.seed,
        )

    def _broken(self, error: Exception) -> Trouble:
        """What it says that no answer came at all."""
        import openai

        cause = error.__cause__
        # The client's transport has come by different names, with the same names of exceptions.
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout"):
            return Trouble(self._clean(f"no connection: {cause or 'in time'}"), counts=False)
        if isinstance(error, openai.APITimeoutError):
            return Trouble("no answer in time", slow=True)
        return Trouble(self._clean(f"the connection broke: {cause}"))

    def _meaning(self, error: Any) -> Exception:
        """What an HTTP status says, beyond what the client repeated already."""
        status = int(error.status_code)
        message = self._clean(f"HTTP {status}: {_message(error)}")
        empty = error.code == "insufficient_quota" or error.type == "insufficient_quota"
        # 403 is a wrong key at some, and a question that moderation stopped at others.
        forbidden = status == 403 and self.answered_at is None
        if status in _STOP_STATUS or empty or forbidden:
            where = f"{self.endpoint.url} (model {self.endpoint.model})"
            hint = {
                401: "; is the key in the variable of --api-key-env right?",
                404: "; is the model's name right, and does the address end as it should, in /v1?",
            }.get(status, "")
            return TeacherError(f"{where}: {message}{hint}")
        if status in _RETRIED_STATUS or status >= 500:
            wait_s = retry_after(error.response.headers, time.time())
            return Trouble(message, wait_s, counts=status != 429)
        return Refused(message)

    def _clean(self, message: str) -> str:
        """A message that is short, and free of the key: some endpoints send it back."""
        if self._key:
            message = message.replace(self._key, "***")
        return message[:_MOST_OF_A_MESSAGE]


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that ``Retry-After`` asks to wait: a number or a date; 0 where it says nothing."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _message(error: Any) -> str:
    body = error.body
    if isinstance(body, Mapping) and body.get("message"):
        return str(body["message"])
    return str(body or error.message)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) else 0
