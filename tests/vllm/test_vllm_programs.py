"""Server and evaluation on vLLM, as users start them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from vllm_models import BLOCK

from parathinker.cli import main
from serving_client import ServerProcess, client, running, sse

pytestmark = pytest.mark.timeout(900)
VLLM = ["--backend", "vllm"]
for _argument in ("enforce_eager=true", "max_num_seqs=32", f"block_size={BLOCK}"):
    VLLM += ["--engine-arg", _argument]
ASKED = {
    "messages": [{"role": "user", "content": "Why?"}],
    "temperature": 1.0,
    "seed": 3,
    "thinking": {"paths": 3, "max_path_tokens": 40},
    "max_tokens": 12,
}
MEASURED = ("method", "width", "accuracy", "path_tokens", "summary_tokens", "most_tokens")
LONG = {"paths": 16, "rounds": 4, "termination": "last-finish", "max_path_tokens": 300}


@pytest.fixture(scope="module")
def server(needs_vllm: None, folder: Path) -> Iterator[ServerProcess]:
    with running(
        "--model", folder, "--shutdown-grace-s", 300, *VLLM, ready_s=800, VLLM_CPU_KVCACHE_SPACE="1"
    ) as one:
        yield one


def body(folder: Path, **more: object) -> dict[str, object]:
    return {"model": folder.name, **ASKED, **more}


def url(server: ServerProcess) -> str:
    return f"{server.url}/v1/chat/completions"


def test_a_server_on_vllm_answers_as_one_on_the_native_engine(server, folder):
    answered = httpx.post(url(server), json=body(folder), timeout=300)
    assert answered.status_code == 200, answered.text
    own = client(folder).post("/v1/chat/completions", body(folder))
    (ours,), (theirs,) = (one.json()["choices"] for one in (answered, own))
    assert ours["message"]["content"] == theirs["message"]["content"]
    assert ours["message"]["reasoning"] == theirs["message"]["reasoning"]
    assert ours["finish_reason"] == theirs["finish_reason"]


def test_a_stream_says_the_same_as_an_answer_at_once(server, folder):
    whole = httpx.post(url(server), json=body(folder), timeout=300).json()
    streamed = httpx.post(url(server), json=body(folder, stream=True), timeout=300)
    events = sse(streamed.text)
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"] for event in events[:-1]]
    text = "".join(c[0]["delta"].get("content") or "" for c in deltas if c)
    assert text == whole["choices"][0]["message"]["content"]


def test_a_client_that_leaves_takes_no_memory_along(server, folder):
    asked = body(folder, stream=True, thinking=LONG)
    with httpx.stream("POST", url(server), json=asked, timeout=300) as stream:
        for _, _ in zip(range(5), stream.iter_lines(), strict=False):
            pass
    left = time.monotonic()
    while server.metric("parathinker_answers_running"):
        assert time.monotonic() < left + 60
        time.sleep(0.1)
    # vLLM tells of its memory with each step.
    httpx.post(url(server), json=body(folder), timeout=300)
    assert server.metric('parathinker_kv_bytes{use="in_use"}') == 0


def test_ctrl_c_lets_the_answer_that_is_under_way_end(server, folder):
    got: list[str] = []
    asked = body(folder, stream=True, thinking=LONG)

    def ask() -> None:
        with httpx.stream("POST", url(server), json=asked, timeout=300) as stream:
            got.extend(stream.iter_lines())

    thread = threading.Thread(target=ask)
    thread.start()
    while not server.metric("parathinker_answers_running"):
        time.sleep(0.02)
    server.ctrl_c()
    server.wait_for("stopping")
    thread.join(300)
    assert "data: [DONE]" in got
    assert not any("error" in line for line in got)
    assert server.process.wait(60) == 0


def test_an_evaluation_on_vllm_finds_what_the_native_engine_finds(
    needs_vllm, folder, tmp_path, capsys
):
    sums = tmp_path / "sums.jsonl"
    rows = [{"problem": f"What is {i}+{i}?", "answer": str(2 * i)} for i in range(2)]
    sums.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for backend in (VLLM, []):
        options = [
            "eval", "--model", folder, "--benchmark", sums, "--paths", "1,2", "--budget", 24,
            "--summary-tokens", 6, "--latency-questions", 0, "--json", *backend,
            "-o", tmp_path / f"run-{len(found)}",
        ]  # fmt: skip
        assert main([str(option) for option in options]) == 0
        found.append(json.loads(capsys.readouterr().out))
    ours, theirs = ([{k: row[k] for k in MEASURED} for row in one["rows"]] for one in found)
    assert ours == theirs
    assert found[0]["settings"]["backend"] == "vllm"
