"""Chat completions: what comes back, and that it is what the engine says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parathinker import ThinkingParams
from serving_client import QUESTION, Client, client
from thinkers import shared
from tiny_models import CHAT_TEMPLATE

Json = dict[str, Any]


def test_an_answer_is_the_engines() -> None:
    body = client().chat(seed=7).json()
    answer = shared("tiny").think(QUESTION, ThinkingParams(paths=8, seed=7))
    choice, usage = body["choices"][0], body["usage"]
    assert body["object"] == "chat.completion"
    assert choice["message"]["content"] == answer.text
    assert choice["finish_reason"] == answer.summary.finish_reason
    assert usage["completion_tokens_details"]["reasoning_tokens"] == answer.usage.path_tokens
    written = answer.usage.path_tokens + answer.usage.summary_tokens
    assert usage["completion_tokens"] == written
    assert usage["total_tokens"] == answer.usage.total_tokens
    texts = [path["text"] for path in choice["message"]["thinking"]["rounds"][0]["paths"]]
    assert texts == [path.text for path in answer.paths]


def test_reasoning_names_each_path() -> None:
    message = client().chat(seed=7, thinking={"paths": 2}).json()["choices"][0]["message"]
    assert message["reasoning"] == message["reasoning_content"]
    assert message["reasoning"].startswith("[path 1]\n")
    assert "\n\n[path 2]\n" in message["reasoning"]


def test_show_decides_how_much_thinking_is_sent() -> None:
    ask = client().chat
    one = ask(thinking={"show": "summary", "paths": 1}).json()["choices"][0]["message"]
    assert one["reasoning"] is None
    assert "thinking" not in one
    more = {"paths": 1, "rounds": 2, "max_path_tokens": 20}
    two = ask(thinking={**more, "show": "summary"}).json()["choices"][0]["message"]
    assert two["reasoning"]
    none = ask(thinking={**more, "show": "none"}).json()["choices"][0]["message"]
    assert none["reasoning"] is None


def test_a_stream_tells_paths_apart_and_adds_up_to_the_answer() -> None:
    asked: Json = {"seed": 7, "thinking": {"paths": 3}}
    whole = client().chat(**asked).json()
    chunks = client().stream(**asked, stream_options={"include_usage": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    *chunks, usage = chunks
    assert usage["choices"] == []
    expected = whole["usage"]
    assert usage["usage"]["completion_tokens"] == expected["completion_tokens"]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    message = whole["choices"][0]["message"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    paths = message["thinking"]["rounds"][0]["paths"]
    for path in paths:
        mine = [d for d in deltas if d.get("thinking", {}).get("path") == path["path"]]
        assert mine[0]["thinking"]["event"] == "start"
        assert mine[-1]["thinking"]["event"] == "end"
        assert mine[-1]["thinking"]["finish_reason"] == path["finish_reason"]
        assert sum(d["thinking"].get("tokens", 0) for d in mine) == path["tokens"]
        assert "".join(d.get("reasoning", "") for d in mine) == path["text"]


def test_a_stream_without_thinking_has_plain_deltas_only() -> None:
    chunks = client().stream(thinking={"show": "none", "paths": 2})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert all(set(delta) <= {"role", "content"} for delta in deltas)


def test_a_stream_with_summaries_tells_progress_without_text() -> None:
    thinking = {"show": "summary", "paths": 2, "rounds": 2, "max_path_tokens": 20}
    deltas = [c["choices"][0]["delta"] for c in client().stream(thinking=thinking)]
    told = [delta for delta in deltas if "thinking" in delta]
    assert {d["thinking"]["path"] for d in told} == {0, 1, 2}
    assert {d["thinking"]["round"] for d in told} == {1, 2}
    assert all(("reasoning" in d) == (d["thinking"]["path"] == 0) for d in told)


def test_same_seed_same_answers_and_n_takes_the_next_seeds() -> None:
    asked: Json = {"thinking": {"paths": 1, "show": "paths"}, "seed": 3}
    both = client().chat(n=2, **asked).json()
    assert [choice["index"] for choice in both["choices"]] == [0, 1]
    for index, choice in enumerate(both["choices"]):
        alone = client().chat(**{**asked, "seed": 3 + index}).json()["choices"][0]
        assert alone["message"]["reasoning"] == choice["message"]["reasoning"]
    alone = client().chat(**asked).json()
    assert both["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]
    streamed = client().stream(n=2, **asked)
    assert {entry["index"] for chunk in streamed for entry in chunk["choices"]} == {0, 1}


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it() -> None:
    asked: Json = {"seed": 7, "thinking": {"paths": 2}}
    content = client().chat(**asked).json()["choices"][0]["message"]["content"]
    stop = content[-4:-2]
    cut = client().chat(stop=stop, **asked).json()["choices"][0]
    assert cut["message"]["content"] == content[: content.index(stop)].strip()
    assert cut["finish_reason"] == "stop"
    # What ends the answer does not end the paths.
    assert all(
        path["finish_reason"] != "length" and path["tokens"] > 100
        for path in cut["message"]["thinking"]["rounds"][0]["paths"]
    )
    streamed = client().stream(stop=["never said", stop], **asked)
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in streamed]
    assert "".join(texts) == cut["message"]["content"]


def test_what_the_answer_is_forced_to_begin_with_ends_nothing(
    random_model: Callable[..., Path],
) -> None:
    folder = random_model("llama", closing=0.1, parathinker={"summary_prefix": "So: a"})
    asked: Json = {"seed": 3, "max_tokens": 8, "thinking": {"paths": 1, "max_path_tokens": 8}}
    free = client(folder).chat(**asked).json()["choices"][0]["message"]["content"]
    assert free.startswith("So: a")
    written = free.removeprefix("So: a")
    assert written
    assert ":" not in written
    stopped = client(folder).chat(stop=[":"], **asked).json()["choices"][0]["message"]["content"]
    assert stopped == free
    streamed = client(folder).stream(stop=[":"], **asked)
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in streamed]
    assert "".join(texts) == free


def test_logprobs_are_of_tokens_that_the_answer_has() -> None:
    asked: Json = {"seed": 7, "logprobs": True, "thinking": {"paths": 2}}
    whole = client().chat(**asked).json()["choices"][0]
    stop = "".join(one["token"] for one in whole["logprobs"]["content"][6:9])
    cut = client().chat(stop=[stop], **asked).json()["choices"][0]
    assert cut["finish_reason"] == "stop"
    tokens = cut["logprobs"]["content"]
    assert len(tokens) == 6
    assert "".join(one["token"] for one in tokens).strip() == cut["message"]["content"]
    assert tokens == whole["logprobs"]["content"][: len(tokens)]
    streamed = client().stream(stop=[stop], **asked)
    lists = [chunk["choices"][0]["logprobs"] for chunk in streamed]
    assert [one for found in lists if found for one in found["content"]] == tokens


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
def test_the_answers_length_is_limited(name: str) -> None:
    choice = client().chat(seed=7, **{name: 3}).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    path = choice["message"]["thinking"]["rounds"][0]["paths"][0]
    assert path["tokens"] > 100


def test_logprobs_are_the_engines_in_openais_shape() -> None:
    asked: Json = {"seed": 7, "logprobs": True, "top_logprobs": 2, "thinking": {"paths": 2}}
    choice = client().chat(**asked).json()["choices"][0]
    answer = shared("tiny").think(QUESTION, ThinkingParams(paths=2, seed=7))
    content = choice["logprobs"]["content"]
    # The forced opening and the closing token are no part of the text.
    assert [one["logprob"] for one in content] == answer.summary.logprobs[1:-1]
    assert "".join(one["token"] for one in content).strip() == answer.text
    for one in content:
        assert bytes(one["bytes"]).decode() == one["token"]
        assert len(one["top_logprobs"]) == 2
    assert content[0]["top_logprobs"][0]["token"] == content[0]["token"]
    streamed = client().stream(**asked)
    lists = [chunk["choices"][0]["logprobs"] for chunk in streamed]
    assert [one for found in lists if found for one in found["content"]] == content


def test_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": parts}],
        "seed": 7,
        "thinking": {"paths": 1},
    }
    split = client().post("/v1/chat/completions", body).json()
    whole = client().chat(seed=7, thinking={"paths": 1}).json()
    assert split["choices"] == [{**whole["choices"][0], "message": split["choices"][0]["message"]}]
    assert split["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


def test_when_thinking_ends_is_the_models_choice_unless_somebody_says(
    random_model: Callable[..., Path],
) -> None:
    folder = random_model("llama", parathinker={"termination": "last-finish"})

    def endings(asked: Client, **thinking: str) -> set[str]:
        body = asked.chat(seed=7, thinking={**thinking, "max_path_tokens": 200}).json()
        rounds = body["choices"][0]["message"]["thinking"]["rounds"]
        return {path["finish_reason"] for path in rounds[0]["paths"]}

    own, settled = client(folder), client(folder, termination="first-finish")
    assert "cut" not in endings(own)
    assert "cut" in endings(own, termination="first-finish")
    assert "cut" in endings(settled)
    assert "cut" not in endings(settled, termination="last-finish")
    for asked, said in ((own, "last-finish"), (settled, "first-finish")):
        about = asked.get("/v1/models").json()["data"][0]["parathinker"]
        assert about["defaults"]["termination"] == said


def test_null_is_the_same_as_absent() -> None:
    nulls = dict.fromkeys(["tools", "stop", "n", "seed", "top_p", "logit_bias", "stream"])
    thinking = {"paths": 1, "termination": None, "rounds": None}
    assert client().chat(thinking=thinking, **nulls).status_code == 200


def test_a_chat_model_reads_the_whole_conversation(random_model: Callable[..., Path]) -> None:
    folder = random_model("llama", chat_template=CHAT_TEMPLATE)
    asked = client(folder, max_path_tokens=8, max_summary_tokens=8)
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi", "reasoning": "[path 1]\nhm", "thinking": {}},
        {"role": "user", "content": "and now?"},
    ]
    body = {"model": folder.name, "messages": turns, "seed": 1}
    response = asked.post("/v1/chat/completions", body)
    assert response.status_code == 200, response.text
    said = [
        {"role": t["role"].replace("developer", "system"), "content": t["content"]} for t in turns
    ]
    tokens = shared(folder).prompt_tokens(said)
    assert response.json()["usage"]["prompt_tokens"] == tokens


def test_a_prompt_that_is_still_in_memory_is_counted_as_cached() -> None:
    client().chat("What is 31313 * 27182?", thinking={"paths": 1})
    usage = client().chat("What is 31313 * 27182?", thinking={"paths": 1}).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0


def test_completions_take_raw_text() -> None:
    body = {"model": "tiny", "prompt": [QUESTION, "What is 12 * 34?"], "seed": 7}
    response = client().post("/v1/completions", {**body, "thinking": {"paths": 2}})
    choices = response.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert all(choice["text"] and "reasoning" not in choice for choice in choices)
    streamed = client().post("/v1/completions", {**body, "prompt": QUESTION, "stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert '"object":"text_completion"' in streamed.text


def test_models_say_what_a_request_gets() -> None:
    asked = client(paths=4, limit_paths=6, limit_path_tokens=100)
    listed = asked.get("/v1/models").json()
    (model,) = listed["data"]
    assert model == asked.get("/v1/models/tiny").json()
    about = model["parathinker"]
    assert about["max_paths"] == 6
    assert about["chat"] is False
    assert about["task"] == "products"
    assert about["defaults"]["paths"] == 4
    assert about["defaults"]["max_path_tokens"] == 100
    assert about["limits"]["path_tokens"] == 100
    assert about["examples"]
    paths = asked.chat().json()["choices"][0]["message"]["thinking"]["rounds"][0]["paths"]
    assert len(paths) == 4
    assert max(path["tokens"] for path in paths) <= 101
