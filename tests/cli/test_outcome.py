"""States of paths, and text that is safe to show."""

from __future__ import annotations

from parathinker.answer import Path
from parathinker.cli.outcome import first_finishers, path_states, printable


def path(thought_id: int, tokens: int, finish_reason: str) -> Path:
    return Path(thought_id, "", [0] * tokens, [None] * tokens, finish_reason)


def test_paths_that_close_in_the_same_step_are_all_first() -> None:
    assert first_finishers({1: 9, 4: 7, 6: 7}) == {4, 6}
    assert first_finishers({}) == frozenset()


def test_only_a_path_that_closed_by_itself_is_first() -> None:
    paths = [path(1, 5, "length"), path(2, 9, "stop"), path(3, 9, "cut"), path(4, 11, "stop")]
    labels = [state.label for state in path_states(paths)]
    assert labels == ["out of tokens", "finished first ✓", "cut", "finished"]


def test_control_characters_are_made_visible() -> None:
    assert printable("a\x1b[2J\x07\r\tb\nü\x9b") == "a�[2J��\tb\nü�"
