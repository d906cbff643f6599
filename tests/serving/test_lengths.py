"""A limit on lengths holds, and asks for nothing by itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parathinker import ParaThinker, ThinkingParams, UsageError
from parathinker.params import DEFAULT_MAX_PATH_TOKENS, DEFAULT_MAX_SUMMARY_TOKENS
from parathinker.prompt import RawPrompt
from parathinker.serving.lengths import Length, stream_within
from serving_client import client
from thinkers import shared, thinker

CONTEXT = 4096
LIMITS = st.none() | st.integers(1, 200) | st.integers(1, CONTEXT + 1000)
PROMPTS = st.integers(1, 200) | st.integers(CONTEXT - 200, CONTEXT) | st.integers(1, CONTEXT)


class Resolved:
    """Takes questions as a model does, and says what lengths it would give to their answers."""

    def __init__(self, model: ParaThinker) -> None:
        self._model = model

    def astream(self, question: Any, params: ThinkingParams | None = None) -> Any:
        params = self._model._prepare(question, params, None).params
        return params.max_path_tokens, params.max_summary_tokens


def within(
    model: ParaThinker,
    prompt: int,
    params: ThinkingParams,
    path: int | None,
    answer: int | None,
) -> Any:
    return stream_within(
        Resolved(model),
        RawPrompt("x" * prompt),
        params,
        Length.of(None, DEFAULT_MAX_PATH_TOKENS, path),
        Length.of(None, DEFAULT_MAX_SUMMARY_TOKENS, answer),
    )


@settings(max_examples=150, deadline=None)
@given(
    PROMPTS, st.integers(1, 8), st.integers(1, 3), LIMITS, LIMITS, st.none() | st.integers(1, 3000)
)
@example(1, 8, 1, CONTEXT, None, None)  # as large as the context
@example(1, 8, 1, 4000, None, None)  # an answer would have nearly nothing
@example(3000, 1, 1, 800, None, None)
@example(3000, 1, 1, None, 1000, None)
@example(1, 1, 1, 3000, 2000, None)
def test_a_limit_holds_shortens_no_other_length_and_fails_nothing(
    tiny_random_model: Path,
    prompt: int,
    paths: int,
    rounds: int,
    path_limit: int | None,
    answer_limit: int | None,
    asked: int | None,
) -> None:
    model = shared(tiny_random_model)
    params = ThinkingParams(paths=paths, rounds=rounds, max_path_tokens=asked)
    if asked is not None:
        path_limit = None  # what is asked for is held against the limit before
    try:
        path, answer = within(model, prompt, params, None, None)
    except UsageError as error:
        with pytest.raises(UsageError, match=re.escape(str(error))):
            within(model, prompt, params, path_limit, answer_limit)
        return
    limited_path, limited_answer = within(model, prompt, params, path_limit, answer_limit)
    path_limit, answer_limit = path_limit or CONTEXT, answer_limit or CONTEXT
    assert min(path, path_limit) <= limited_path <= path_limit
    assert min(answer, answer_limit) <= limited_answer <= answer_limit
    # What one limit leaves the other length may have, as where a request says it itself.
    if answer_limit >= answer:
        assert limited_path <= path
    if path_limit >= path:
        assert limited_answer <= answer


@settings(max_examples=100, deadline=None)
@given(st.integers(200, 4000), st.integers(1, 8), LIMITS, LIMITS)
def test_a_limit_holds_in_little_memory_too(
    tiny_random_model: Path, kv_tokens: int, paths: int, path: int | None, answer: int | None
) -> None:
    key = kv_tokens // 500
    model = _SMALL.setdefault(key, thinker(tiny_random_model, kv_tokens=500 * key + 200))
    params = ThinkingParams(paths=paths)
    try:
        within(model, 20, params, None, None)
    except UsageError:
        return
    limited_path, limited_answer = within(model, 20, params, path, answer)
    assert limited_path <= (path or CONTEXT)
    assert limited_answer <= (answer or CONTEXT)


_SMALL: dict[int, ParaThinker] = {}


def test_a_plain_request_is_taken_whatever_the_limits(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama")
    for limit in (CONTEXT, CONTEXT + 904, 20_000):
        asked = client(folder, limit_path_tokens=limit, limit_answer_tokens=CONTEXT)
        response = asked.chat(max_tokens=4, thinking={"paths": 2})
        assert response.status_code == 200, response.text
        defaults = asked.get("/v1/models").json()["data"][0]["parathinker"]["defaults"]
        assert defaults["max_path_tokens"] == CONTEXT
        assert defaults["max_summary_tokens"] == DEFAULT_MAX_SUMMARY_TOKENS


def test_the_servers_default_is_what_it_says_up_to_the_limit() -> None:
    assert Length.of(None, 100, None) == Length(None, 100, False)
    assert Length.of(200, 100, None) == Length(200, 100, False)
    assert Length.of(200, 100, 50) == Length(50, 50, True)
    assert Length.of(30, 100, 50) == Length(30, 50, True)
    assert Length.of(None, 100, 300) == Length(None, 100, False)
    assert dataclasses.astuple(Length.of(None, 100, 100)) == (None, 100, False)
