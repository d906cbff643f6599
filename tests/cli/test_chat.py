"""``parathinker chat`` with a model in this process: piped in, and on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Screen, TerminalRun

from parathinker import ThinkingParams, UsageError
from parathinker.cli.chat_settings import ChatSettings, change

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def piped(run: Run, letters_model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``piped(text, *options)``: a chat whose user wrote all of it in advance."""

    def call(text: str | bytes, *options: object) -> tuple[int, str, str]:
        data = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return run("chat", "--model", letters_model, "--seed", 3, "--threads", 1, *options)

    return call


def test_each_line_is_a_question_on_top_of_the_answers_before(
    piped: Run, run: Run, letters_model: Path
) -> None:
    code, output, errors = piped("Well?\n\nAnd then?\n", "--paths", 2)
    assert (code, errors) == (0, "")
    same = ["--model", letters_model, "--seed", 3, "--paths", 2, "--then", "And then?"]
    asked = run("ask", "Well?", *same)[1]
    # But for how long it took.
    assert answers(output) == answers(asked)
    assert len(answers(output)) == 6


def answers(output: str) -> list[str]:
    """What paths and summaries say."""
    blocks = [block.strip() for block in output.split("\n\n")]
    return [block for block in blocks if block.startswith("[")]


def test_without_its_thinking_an_answer_is_all_there_is(piped: Run) -> None:
    full, quiet = (piped("Well?\n", "--show", show)[1] for show in ("paths", "none"))
    assert quiet.strip() == answers(full)[-1].partition("\n")[2]


def test_commands_change_what_follows(piped: Run) -> None:
    code, output, errors = piped("/paths 3\nWell?\n/show none\n/paths\n/quit\nnever asked\n")
    assert code == 0
    assert len(answers(output)) == 4
    assert "never asked" not in output
    assert errors.splitlines() == ["paths: 3", "show: none", "paths: 3"]


def test_reset_begins_anew(piped: Run) -> None:
    _, output, _ = piped("Well?\nWell?\n/reset\nWell?\n", "--show", "none")
    first, second, third = output.split("\n\n")[:3]
    assert first == third != second


def test_what_cannot_be_is_said_and_the_rest_is_answered(piped: Run) -> None:
    lines = ["/paths 0", "/frobnicate", "/tokens many", "/rounds", "/show all", "x" * 9000, "Well?"]
    code, output, errors = piped("\n".join(lines), "--show", "none")
    assert code == 1
    assert output.strip()
    for said in (
        "line 1: paths should be a whole number from 1",
        "line 2: there is no command /frobnicate; /help",
        "line 3: tokens should be a whole number; got 'many'",
        "line 5: show should be one of",
        "line 6: the question is too long",
    ):
        assert said in errors
    assert "Error: 5 of the lines could not be answered" in errors


def test_a_line_that_is_no_text_is_refused(piped: Run) -> None:
    code, output, errors = piped(b"\xff\xfe\nWell?\n", "--show", "none")
    assert (code, bool(output.strip())) == (1, True)
    assert "line 1: " in errors


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/paths auto", "paths: auto"),
        ("/termination last-finish", "termination: last-finish"),
        ("/rounds 2", "rounds: 2"),
        ("/tokens 9", "tokens: 9"),
        ("/tokens", "tokens: the model's own"),
        ("/seed 5", "seed: 5"),
        ("/seed random", "seed: random"),
        ("/show summary", "show: summary"),
    ],
)
def test_a_command_says_what_holds_now(line: str, said: str) -> None:
    name, _, value = line[1:].partition(" ")
    settings, told = change(ChatSettings(ThinkingParams()), name, value)
    assert told == said
    assert change(settings, name, "")[1] == said


def test_a_command_that_fails_leaves_all_as_it_was(piped: Run) -> None:
    with pytest.raises(UsageError, match="termination"):
        change(ChatSettings(ThinkingParams(paths="auto")), "termination", "half-finish")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--show", "all"], "show should be one of"),
        (["--paths", "many"], "paths should be"),
        (["--server", "nowhere"], "http://"),
    ],
)
def test_a_wrong_option_is_a_usage_error(piped: Run, options: list[str], said: str) -> None:
    code, _, errors = piped("Well?\n", *options)
    assert code == 2
    assert said in errors


@pytest.fixture
def terminal(letters_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TerminalRun:
    """A chat on a terminal whose prompt is there."""
    settings = tmp_path / "inputrc"
    settings.write_text("set enable-bracketed-paste off\n")
    monkeypatch.setenv("INPUTRC", str(settings))
    options = ["--model", str(letters_model), "--threads", "1", "--paths", "2", "--seed", "3"]
    started = TerminalRun(["chat", *options], 100, 40)
    started.wait_for(lambda screen: "\n>" in screen.text)
    return started


def prompted(screen: Screen) -> bool:
    """Whether the chat waits for a line: keys that are pressed before may mean something else."""
    return screen.text.rstrip().endswith("\n>")


def test_a_terminal_shows_paths_and_ends_with_ctrl_d(terminal: TerminalRun) -> None:
    terminal.type("Well?\n")
    terminal.wait_for(lambda screen: "tokens (" in screen.text)
    for part in ("path 1", "path 2", "summary"):
        assert part in terminal.screen.text
    terminal.type("/show summary\n")
    terminal.wait_for(lambda screen: "show: summary" in screen.text)
    terminal.type("And then?\n")
    terminal.wait_for(lambda screen: screen.text.count("tokens (") == 2)
    terminal.wait_for(prompted)
    terminal.type("\x04")
    assert terminal.finish() == 0


def test_ctrl_c_stops_an_answer_and_not_the_chat(terminal: TerminalRun) -> None:
    # As much as the model and its context allow: seconds on the fastest of machines.
    for line in ("/paths 8", "/termination last-finish", "/tokens 1500", "/rounds 2"):
        terminal.type(f"{line}\n")
    terminal.wait_for(lambda screen: "rounds: 2" in screen.text)
    terminal.type("Well?\n")
    terminal.wait_for(lambda screen: "round 1 of 2" in screen.text)
    terminal.interrupt()
    terminal.wait_for(lambda screen: "Stopped." in screen.text)
    terminal.interrupt()  # at the prompt it means nothing
    terminal.type("/rounds 1\n/tokens 20\nAgain?\n")
    terminal.wait_for(lambda screen: "tokens (" in screen.text)
    terminal.type("/quit\n")
    assert terminal.finish() == 0
    assert "Error" not in terminal.screen.text
