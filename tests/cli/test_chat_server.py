"""``parathinker chat`` with a server."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from terminal import TerminalRun

from parathinker import Done, ThinkingParams
from parathinker.cli.chat_server import KEY_VARIABLE, ServerPartner
from serving_client import KEY, client
from thinkers import shared
from tiny_models import CHAT_TEMPLATE

Run = Callable[..., tuple[int, str, str]]


@contextmanager
def served(model: str | Path, **settings: Any) -> Iterator[str]:
    """A server's address; it listens in a thread of this process."""
    app = client(model, **settings).app
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        thread = threading.Thread(target=server.run, args=[[bound]])
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(letters_model: Path) -> Iterator[str]:
    with served(letters_model, paths=3, termination="last-finish", max_path_tokens=20) as url:
        yield url


def test_a_server_says_what_the_engine_says(address: str, letters_model: Path) -> None:
    partner = ServerPartner(address, None)
    params = partner.params({"seed": 4, "temperature": 0.7})
    assert (params.paths, params.termination) == (3, "last-finish")
    events = list(partner.ask("Well?", params, "paths"))
    told = events[-1]
    assert isinstance(told, Done)
    own = shared(letters_model).think("Well?", params)
    answer = told.answer
    assert answer.text == own.text.strip()
    for mine, theirs in zip(answer.paths, own.paths, strict=True):
        assert (mine.text, mine.finish_reason) == (theirs.text, theirs.finish_reason)
        assert len(mine.token_ids) == len(theirs.token_ids)
    assert answer.usage.path_tokens == own.usage.path_tokens
    assert answer.usage.summary_tokens == own.usage.summary_tokens
    assert answer.summary.finish_reason == own.summary.finish_reason


def test_rounds_are_told_apart(address: str, letters_model: Path) -> None:
    partner = ServerPartner(address, None)
    params = partner.params({"seed": 4, "rounds": 2, "paths": 2})
    *_, told = partner.ask("Well?", params, "paths")
    own = shared(letters_model).think("Well?", params)
    assert isinstance(told, Done)
    for mine, theirs in zip(told.answer.rounds, own.rounds, strict=True):
        assert [path.text for path in mine.paths] == [path.text for path in theirs.paths]
        assert mine.summary.text == theirs.summary.text.strip()
    assert told.answer.usage.summary_tokens == own.usage.summary_tokens


@pytest.mark.parametrize("show", ["paths", "summary", "none"])
def test_lines_are_answered_whatever_is_shown(
    run: Run, address: str, monkeypatch: pytest.MonkeyPatch, show: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Well?\nAnd then?\n")))
    code, output, errors = run("chat", "--server", f"{address}/v1", "--seed", 4, "--show", show)
    assert (code, errors) == (0, "")
    assert output.count("[path 3") == (2 if show == "paths" else 0)
    assert output.strip()


def test_a_model_with_a_template_gets_the_whole_conversation(
    random_model: Callable[..., Path],
) -> None:
    folder = random_model("llama", chat_template=CHAT_TEMPLATE)
    with served(folder, paths=1, max_path_tokens=8, max_summary_tokens=8) as url:
        partner = ServerPartner(url, None)
        assert partner.remembers
        lengths = []
        for question in ("hello", "and now?"):
            *_, told = partner.ask(question, partner.params({"seed": 1}), "none")
            assert isinstance(told, Done)
            lengths.append(told.answer.usage.prompt_tokens)
        said = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "and now?"},
        ]
        assert lengths[1] > shared(folder).prompt_tokens(said) - 2 > lengths[0]
        partner.reset()
        *_, told = partner.ask("hello", partner.params({"seed": 1}), "none")
        assert isinstance(told, Done)
        assert told.answer.usage.prompt_tokens == lengths[0]


def test_leaving_an_answer_stops_it(address: str) -> None:
    partner = ServerPartner(address, None)
    assert not partner.remembers
    events = partner.ask("Well?", ThinkingParams(paths=8, max_path_tokens=900), "paths")
    next(events)
    events.close()  # type: ignore[attr-defined]
    *_, told = partner.ask("Well?", partner.params({}), "none")
    assert isinstance(told, Done)


def test_the_key_comes_from_the_environment(
    run: Run, letters_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(letters_model, api_keys=[KEY]) as url:
        for key, code, said in (("", 1, KEY_VARIABLE), ("wrong", 1, KEY_VARIABLE), (KEY, 0, "")):
            monkeypatch.setenv(KEY_VARIABLE, key)
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Well?\n")))
            found, _, errors = run("chat", "--server", url, "--show", "none")
            assert (found, said in errors) == (code, True)
            assert "wrong" not in errors


def test_what_a_server_refuses_is_said_in_its_words(
    run: Run, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 9000 + b"\n\xff\n")))
    code, _, errors = run("chat", "--server", address)
    assert code == 1
    assert "line 1: the question is too long" in errors
    assert "line 2: the question is not valid UTF-8" in errors
    code, _, errors = run("chat", "--server", address, "--model", "other")
    assert code == 2
    assert "has no model 'other'" in errors
    code, _, errors = run("chat", "--server", "http://127.0.0.1:9")
    assert code == 1
    assert "does not answer" in errors


def test_a_terminal_shows_a_servers_paths_live(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "inputrc"
    settings.write_text("set enable-bracketed-paste off\n")
    monkeypatch.setenv("INPUTRC", str(settings))
    terminal = TerminalRun(["chat", "--server", address, "--seed", "4"], 100, 80)
    terminal.wait_for(lambda screen: "takes each question by itself" in screen.text)
    for count, paths in enumerate(("2", "auto"), 1):
        terminal.type(f"/paths {paths}\nWell?\n")
        terminal.wait_for(lambda screen, count=count: screen.text.count("tokens (") == count)  # type: ignore[misc]
        assert terminal.screen.text.count("summary") >= count
    terminal.wait_for(lambda screen: screen.text.rstrip().endswith("\n>"))
    terminal.type("\x04")
    assert terminal.finish() == 0


def test_without_openais_client_it_says_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    code, _, errors = run("chat", "--server", "http://127.0.0.1:8000")
    assert code == 1
    assert "pip install 'parathinker[serve]'" in errors
