"""An engine that broke down: clients, health checks, metrics and the log are told."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parathinker import EngineError
from parathinker.backends.vllm.engine import VLLMEngine
from parathinker.backends.vllm.limits import Limits
from parathinker.modeling.folders import resolve_model
from parathinker.serving.backend import describe
from parathinker.serving.host import Host
from parathinker.serving.logs import JsonLines
from parathinker.serving.settings import load_settings
from serving_client import Client, client
from thinkers import Faulty, thinker


def own_client() -> Client:
    """An application whose model is nobody else's."""
    host, model = Host(load_settings({"model": "tiny"})), thinker("tiny")
    host.adopt(model, describe(host.settings, model, resolve_model("tiny")))
    return Client(host)


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_whose_engine_broke_down_says_so_and_is_not_ready() -> None:
    asked = own_client()
    assert asked.host._model is not None
    model: Any = asked.host._model[0]

    def broken() -> None:
        raise AssertionError("the scheduler is broken")

    model._engine._scheduler.schedule = broken
    assert asked.get("/health/ready").status_code == 200
    assert asked.chat().status_code == 500
    for path in ("/health", "/health/ready"):
        response = asked.get(path)
        assert (response.status_code, response.json()["status"]) == (503, "failed")
    assert asked.get("/health/live").status_code == 200
    assert "parathinker_ready 0.0" in asked.get("/metrics").text
    later = asked.chat()
    assert later.status_code == 503
    assert "engine has failed" in later.json()["error"]["message"]
    assert asked.chat(stream=True).status_code == 503
    assert not model.alive
    for thread in threading.enumerate():
        if thread.name == "parathinker-engine":
            thread.join(10)  # its traceback is this test's


def test_an_engine_that_was_closed_takes_no_requests() -> None:
    model = thinker("tiny")
    assert model.alive
    model.close()
    assert not model.alive


def test_vllm_is_not_alive_without_its_processes() -> None:
    class LLM:
        errored = False

        def shutdown(self) -> None:
            pass

    llm = LLM()
    engine = VLLMEngine(lambda _: llm, lambda _: Limits(64, 9, 16, 1, 1, 4), None, frozenset())
    assert engine.alive
    llm.errored = True
    assert not engine.alive
    llm.errored = False
    engine.close()
    assert not engine.alive


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_forward_is_logged_once_with_the_requests_id(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asked = own_client()
    assert asked.host._model is not None
    faulty = Faulty(asked.host._model[0])  # type: ignore[arg-type]

    def fail() -> None:
        raise ZeroDivisionError("in the forward")

    faulty.before_forward = fail
    response = asked.chat(stream=stream, n=3)
    assert '"code":"engine_error"' in response.text
    (record,) = failures(caplog)
    assert record.levelname == "ERROR"
    line = json.loads(JsonLines(text=True).format(record))
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["error"] == "EngineError"
    assert line["cause"]["error_message"] == "in the forward"
    assert any(" in fail" in frame for frame in line["cause"]["trace"])
    assert "in the forward" not in JsonLines(text=False).format(record)


def test_a_question_that_cannot_be_read_is_logged_with_the_requests_id(
    random_model: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    asked = client(random_model("llama", chat_template="{{ messages.x.y }}"))
    response = asked.chat()
    assert response.status_code == 500
    (record,) = failures(caplog)
    assert record.fields["request_id"] == response.headers["x-request-id"]  # type: ignore[attr-defined]


def test_a_clients_own_error_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert client().chat(thinking={"max_path_tokens": 9000}).status_code == 400
    assert not failures(caplog)


def test_a_broken_engine_refuses_requests_by_what_happened() -> None:
    model = thinker("tiny")
    model._engine._closed = model._engine._broken = True  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="closed: it broke down"):
        model.think("1")
