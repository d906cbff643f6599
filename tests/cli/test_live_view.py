"""What a terminal shows while ``parathinker ask`` thinks, and after."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Screen, TerminalRun

QUESTION = "What is 12 * 12?"


def arguments(model: Path, *more: str) -> list[str]:
    return ["ask", QUESTION, "--model", str(model), "--seed", "3", "--top-k", "5", *more]


def paths_by_row(screen: Screen) -> list[list[int]]:
    """Which paths stand side by side."""
    rows = [[int(i) for i in re.findall(r"path (\d+) [─━]", line)] for line in screen.lines]
    return [row for row in rows if row]


SIZES = {
    (80, 24): [[1, 2], [3, 4], [5, 6], [7, 8]],
    (120, 40): [[1, 2, 3, 4], [5, 6, 7, 8]],
    (300, 20): [[1, 2, 3, 4, 5, 6, 7, 8]],
}


@pytest.mark.parametrize("size", SIZES)
def test_paths_stand_side_by_side_and_nothing_leaves_the_screen(
    letters_model: Path, size: tuple[int, int]
) -> None:
    # A summary of many lines would push the question off the smallest screen.
    more = ["--termination", "last-finish", "--max-summary-tokens", "60"]
    terminal = TerminalRun(arguments(letters_model, *more), *size)
    terminal.wait_for(lambda screen: "tokens" in screen.text)
    assert not terminal.screen.history
    assert terminal.finish() == 0
    screen = terminal.screen
    assert paths_by_row(screen) == SIZES[size]
    assert screen.lines[0] == QUESTION
    assert not screen.history
    assert screen.widest <= size[0]
    assert not screen.cursor_hidden
    assert "thinking" not in screen.text


def test_final_screen_says_what_the_answer_holds(
    letters_model: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    terminal = TerminalRun(arguments(letters_model), 120, 40)
    assert terminal.finish() == 0
    screen = terminal.screen
    answer = json.loads(run(*arguments(letters_model, "--json"))[1])

    closed = [p for p in answer["paths"] if p["finish_reason"] == "stop"]
    shortest = min(len(p["token_ids"]) for p in closed)
    first = [p for p in closed if len(p["token_ids"]) == shortest]
    assert screen.text.count("finished first ✓") == len(first)
    assert screen.text.count("┏") == len(first)
    assert screen.text.count("─ cut ─") == 8 - len(closed)

    shown = "".join(re.findall(r"[a-z]", screen.text[screen.text.index("summary ─") + 9 :]))
    assert "".join(answer["text"].split()) in shown
    assert "…" not in screen.text
    last = [line for line in screen.lines if line][-1]
    assert last.startswith(f"{answer['usage']['path_tokens'] + answer['usage']['summary_tokens']} ")
    assert last.endswith("✗ wrong, expected 144")


def test_summary_longer_than_the_screen_is_shown_whole(
    endless_model: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    long = ["--max-path-tokens", "5", "--max-summary-tokens", "700"]
    terminal = TerminalRun(arguments(endless_model, *long), 60, 16)
    assert terminal.finish() == 0
    everything = "\n".join([*terminal.screen.history, *terminal.screen.lines])
    # Frames of the time before have been wiped out by the last one.
    assert everything.count("summary ─") == 1
    answer = json.loads(run(*arguments(endless_model, *long, "--json"))[1])
    shown = "".join(re.findall(r"[a-z]", everything[everything.index("summary ─") + 9 :]))
    assert "".join(answer["text"].split()) in shown


def test_terminal_too_small_for_panels_gets_a_line_for_each_path(letters_model: Path) -> None:
    terminal = TerminalRun(arguments(letters_model), 40, 14)
    terminal.wait_for(lambda screen: "thinking: " in screen.text)
    assert terminal.finish() == 0
    # The closing line may push the first paths off the screen.
    assert any(" 1 " in line for line in [*terminal.screen.history, *terminal.screen.lines])
    assert terminal.screen.widest <= 40


def test_rounds_and_follow_ups_stand_one_below_the_other(letters_model: Path) -> None:
    more = ["--paths", "2", "--rounds", "2", "--max-path-tokens", "8", "--max-summary-tokens", "8"]
    terminal = TerminalRun(arguments(letters_model, *more, "--then", "And then?"), 100, 30)
    assert terminal.finish() == 0
    everything = "\n".join([*terminal.screen.history, *terminal.screen.lines])
    found = re.findall(r"round \d of 2|path \d [─━]|summary ─|And then|✗ wrong", everything)
    assert [what.strip(" ─━") for what in found] == [
        what
        for turn in ("✗ wrong", "")
        for number in (1, 2)
        for what in (
            *(["And then"] if not turn and number == 1 else []),
            f"round {number} of 2",
            "path 1",
            "path 2",
            "summary",
            *([turn] if turn and number == 2 else []),
        )
    ]
    assert "thinking" not in everything
    assert " reused) · " in everything


def test_paths_that_join_later_get_their_panels(letters_model: Path) -> None:
    more = ["--paths", "auto", "--max-paths", "6", "--max-path-tokens", "8"]
    terminal = TerminalRun(arguments(letters_model, *more), 120, 40)
    terminal.wait_for(lambda screen: "path 3" in screen.text)
    assert terminal.finish() == 0
    assert paths_by_row(terminal.screen) == [[1, 2, 3], [4, 5, 6]]
    assert "thinking" not in terminal.screen.text


@pytest.mark.parametrize("view", ["live", "--plain", "--json"])
def test_ctrl_c_is_a_clean_stop(endless_model: Path, view: str) -> None:
    more = ["--max-path-tokens", "3000"] + ([] if view == "live" else [view])
    # JSON prints nothing before it is done; on a busy machine Python may still be starting, and
    # then the signal ends it before there is anyone to handle it.
    for patience in (2.5, 10.0, 40.0):
        terminal = TerminalRun(arguments(endless_model, *more), 80, 24)
        if view == "live":
            terminal.wait_for(lambda screen: "thinking" in screen.text)
        elif view == "--plain":
            terminal.wait_for(lambda screen: QUESTION in screen.text)
        else:
            time.sleep(patience)
        terminal.interrupt()
        code = terminal.finish()
        if view != "--json" or code != -signal.SIGINT:
            break
    assert code == 130, terminal.output
    assert "Stopped." in terminal.screen.text
    assert "Traceback" not in terminal.output
    assert not terminal.screen.cursor_hidden


def test_plain_on_a_terminal_has_no_control_codes(letters_model: Path) -> None:
    terminal = TerminalRun(arguments(letters_model, "--plain"), 80, 24)
    assert terminal.finish() == 0
    assert "\x1b" not in terminal.output
