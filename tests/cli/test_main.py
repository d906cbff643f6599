"""The command line as a whole: help, versions, exit codes, errors nobody foresaw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from parathinker import __version__

Run = Callable[..., tuple[int, str, str]]
COMMANDS = ["ask", "chat", "serve", "train", "data", "eval", "models", "bench", "doctor"]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"parathinker {__version__}\n", "")


def test_help_lists_every_command(run: Run) -> None:
    code, output, _ = run("--help")
    assert code == 0
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize(
    "command", [["--help"], *[[c, "--help"] for c in COMMANDS], ["models", "prepare", "--help"]]
)
def test_every_help_has_an_example(run: Run, command: list[str]) -> None:
    code, output, _ = run(*command)
    assert code == 0
    assert "Example" in output


@pytest.mark.parametrize("arguments", [["frobnicate"], ["--frobnicate"], ["models", "frobnicate"]])
def test_unknown_command_or_option_is_a_usage_error(run: Run, arguments: list[str]) -> None:
    code, _, errors = run(*arguments)
    assert code == 2
    assert "frobnicate" in errors


def test_unforeseen_error_is_short_and_tells_how_to_see_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("the disk is on fire")

    # Nothing a user can do is known to get here, so it is done to the command itself.
    monkeypatch.setattr("parathinker.cli.ask.resolve_model", fail)
    monkeypatch.delenv("PARATHINKER_DEBUG", raising=False)
    code, output, errors = run("ask", "x")
    assert (code, output) == (1, "")
    assert "RuntimeError: the disk is on fire" in errors
    assert "PARATHINKER_DEBUG=1" in errors
    assert "Traceback" not in errors
    monkeypatch.setenv("PARATHINKER_DEBUG", "1")
    assert "Traceback" in run("ask", "x")[2]


@pytest.mark.parametrize("arguments", [["ask", "--help"], ["models", "--json"]])
def test_reader_that_leaves_early_is_met_with_silence(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "parathinker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(60) in (0, 1)
    assert errors == b""
