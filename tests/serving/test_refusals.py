"""What cannot be honoured is refused, in OpenAI's shape, with the field's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from parathinker.serving.schema import ChatRequest, CompletionRequest
from serving_client import QUESTION, client
from tiny_models import CHAT_TEMPLATE

HELLO = [{"role": "user", "content": "hello"}]
WITH = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}], %b}'


def error_of(response: Any, status: int = 400) -> dict[str, Any]:
    """The error, which has all of its fields."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "auto"),
        ("functions", []),
        ("logit_bias", {"1": 5}),
        ("audio", {"voice": "any"}),
        ("prediction", {}),
        ("reasoning_effort", "high"),
        ("parallel_tool_calls", True),
        ("web_search_options", {}),
    ],
)
def test_what_openai_has_and_this_server_lacks_is_refused(field: str, value: Any) -> None:
    error = error_of(client().chat(**{field: value}))
    assert error["param"] == field
    assert error["code"] == "unsupported_parameter"
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"thinking": {"width": 3}}, "thinking.width"),
        ({"thinking": {"paths": 0}}, "thinking.paths"),
        ({"thinking": {"paths": "many"}}, "thinking.paths"),
        ({"thinking": {"paths": 17}}, "thinking.paths"),
        ({"thinking": {"termination": "never"}}, "thinking.termination"),
        ({"thinking": {"paths": "auto", "termination": "half-finish"}}, "thinking.termination"),
        ({"thinking": {"rounds": 99}}, "thinking.rounds"),
        ({"thinking": {"max_path_tokens": 9000}}, "thinking.max_path_tokens"),
        ({"thinking": {"show": "all"}}, "thinking.show"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"store": True}, "store"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [*HELLO, *HELLO]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], **fields}
    error = error_of(client().post("/v1/chat/completions", body))
    assert error["param"] == param


def test_a_model_without_a_template_says_why_it_takes_one_message_only() -> None:
    body = {"model": "tiny", "messages": [{"role": "system", "content": "x"}, *HELLO]}
    error = error_of(client().post("/v1/chat/completions", body))
    assert "no chat template" in error["message"]


def test_a_chat_has_to_end_with_something_to_answer(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama", chat_template=CHAT_TEMPLATE)
    body = {"model": folder.name, "messages": [{"role": "assistant", "content": "hi"}]}
    error_of(client(folder).post("/v1/chat/completions", body))


def test_messages_that_the_chat_template_refuses_are_named(
    random_model: Callable[..., Path],
) -> None:
    # As Mistral's do.
    alternate = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    folder = random_model("llama", chat_template=alternate)
    body = {"model": folder.name, "messages": [*HELLO, *HELLO]}
    error = error_of(client(folder).post("/v1/chat/completions", body))
    assert error["param"] == "messages"
    assert "roles must alternate" in error["message"]


MANY: Any = [0] * 200_000
NAMES = {f"x{i}": 0 for i in range(50_000)}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": MANY}, "messages[0]"),
        ({"messages": [{"role": "user", "content": MANY}]}, "messages[0].content"),
        ({"messages": [{**HELLO[0], **NAMES}]}, "messages[0]"),
        ({"messages": HELLO, "metadata": NAMES}, "metadata"),
        ({"messages": HELLO, "stop": MANY}, "stop"),
        ({"messages": HELLO, "modalities": MANY}, "modalities[0]"),
        ({"messages": HELLO, "thinking": NAMES}, "thinking"),
        ({"messages": HELLO, **NAMES}, "x0"),
    ],
)
def test_a_body_full_of_errors_is_refused_for_one(fields: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", **fields}
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body)
    assert caught.value.error_count() <= 2  # one for each type that a field may have
    error = error_of(client(limit_body_bytes=1 << 24).post("/v1/chat/completions", body))
    assert error["param"].startswith(param)


def test_a_prompt_full_of_errors_is_refused_for_one() -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate({"model": "tiny", "prompt": MANY})
    assert caught.value.error_count() <= 2


def test_another_model_does_not_exist() -> None:
    asked = client()
    body = {"model": "gpt-4", "messages": HELLO}
    error = error_of(asked.post("/v1/chat/completions", body), 404)
    assert error["code"] == "model_not_found"
    assert error_of(asked.get("/v1/models/gpt-4"), 404)["code"] == "model_not_found"


def test_a_prompt_that_is_too_long_is_refused() -> None:
    error = error_of(client().chat("1" * 9000))
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    limited = client(limit_prompt_tokens=5)
    assert error_of(limited.chat())["code"] == "context_length_exceeded"
    raw = limited.post("/v1/completions", {"model": "tiny", "prompt": QUESTION})
    assert error_of(raw)["param"] == "prompt"


def test_limits_hold_for_those_who_ask_and_for_those_who_do_not() -> None:
    asked = client(limit_paths=2, limit_path_tokens=30, limit_answer_tokens=4)
    assert error_of(asked.chat(thinking={"paths": 3}))["param"] == "thinking.paths"
    assert error_of(asked.chat(max_tokens=5))["param"] == "max_tokens"
    over = {"max_path_tokens": 31}
    assert error_of(asked.chat(thinking=over))["param"] == "thinking.max_path_tokens"
    usage = asked.chat().json()["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] <= 2 * 31
    automatic = asked.chat(thinking={"paths": "auto"}).json()["choices"][0]["message"]
    assert len(automatic["thinking"]["rounds"][0]["paths"]) == 2


@pytest.mark.parametrize("field", ["suffix", "logprobs", "echo", "best_of"])
def test_completions_refuse_what_they_lack(field: str) -> None:
    value = {"suffix": "x", "logprobs": 3, "echo": True, "best_of": 4}[field]
    body = {"model": "tiny", "prompt": "hi", field: value}
    assert error_of(client().post("/v1/completions", body))["param"] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"messages": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        b"[]",
        b'"text"',
        WITH % b'"top_p": NaN',
        WITH % b'"temperature": 1e999',
        WITH % (b'"seed": 1' + b"0" * 5000),
    ],
)
def test_a_broken_body_is_a_clients_error(body: bytes) -> None:
    headers = {"content-type": "application/json"}
    error_of(client().post("/v1/chat/completions", content=body, headers=headers))


def test_a_body_of_another_type_is_refused() -> None:
    body = json.dumps({"model": "tiny", "messages": HELLO})
    headers = {"content-type": "text/plain"}
    error = error_of(client().post("/v1/chat/completions", content=body, headers=headers))
    assert "application/json" in error["message"]


def test_unknown_paths_and_methods_have_the_same_shape() -> None:
    assert error_of(client().get("/v1/frobnicate"), 404)["code"] == "not_found"
    assert error_of(client().get("/v1/chat/completions"), 405)["code"] == "method_not_allowed"


def test_nothing_a_client_sends_is_the_servers_error() -> None:
    asked = client(max_path_tokens=4, max_summary_tokens=4)
    numbers = st.integers() | st.floats()
    values = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.just([]) | st.just({})
    names = "temperature top_p top_k min_p seed n stop max_tokens stream presence_penalty"
    names += " frequency_penalty logprobs thinking user model"
    fields = st.dictionaries(
        st.sampled_from(names.split()),
        values | st.floats(0, 2) | st.floats(0, 1e-300) | st.integers(0, 3),
        max_size=4,
    )

    @settings(max_examples=60)
    @given(fields)
    def ask(chosen: dict[str, Any]) -> None:
        body = json.dumps({"model": "tiny", "messages": HELLO, **chosen}).encode()
        headers = {"content-type": "application/json"}
        response = asked.post("/v1/chat/completions", content=body, headers=headers)
        assert response.status_code in (200, 400, 404), response.text
        if response.status_code == 200 and chosen.get("stream"):
            assert response.text.endswith("data: [DONE]\n\n")

    ask()


def test_the_schema_describes_the_endpoints() -> None:
    schema = client().get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health"} <= set(
        schema["paths"]
    )
    chat = schema["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False
    assert {"messages", "thinking", "tools"} <= set(chat["properties"])
