"""States of paths, and text that is safe to show."""

from __future__ import annotations

import pytest

from parathinker import ThinkingParams
from parathinker.cli.outcome import first_finishers, path_states, printable

EVEN = ThinkingParams(termination="last-finish")


def test_paths_that_close_in_the_same_step_are_all_first() -> None:
    assert first_finishers({1: 9, 4: 7, 6: 7}, EVEN) == {4, 6}
    assert first_finishers({}, EVEN) == frozenset()


def test_whoever_ends_thinking_finished_first() -> None:
    # Forced tokens make a path longer, not later.
    prefixed = ThinkingParams(paths=2, termination="first-finish", path_prefix=("a", "longer"))
    assert first_finishers({1: 9, 2: 14}, prefixed) == {1, 2}


@pytest.mark.parametrize(
    "params",
    [
        ThinkingParams(paths="auto"),
        ThinkingParams(termination="last-finish", continuation="Wait", min_path_tokens=5),
        ThinkingParams(paths=2, termination="last-finish", path_prefix=("a", "longer")),
        ThinkingParams(paths=2, path_prefix=("a", "longer")),  # the model may wait for all
    ],
)
def test_nobody_is_first_where_tokens_do_not_tell(params: ThinkingParams) -> None:
    assert first_finishers({1: 9, 2: 7}, params) == frozenset()


def test_only_a_path_that_closed_by_itself_is_first() -> None:
    paths = {1: ("length", 5), 2: ("stop", 9), 3: ("cut", 9), 4: ("stop", 11), 5: (None, 3)}
    labels = [state.label for state in path_states(paths, EVEN).values()]
    assert labels == ["out of tokens", "finished first ✓", "cut", "finished", "thinking"]


def test_control_characters_are_made_visible() -> None:
    assert printable("a\x1b[2J\x07\r\tb\nü\x9b") == "a�[2J��\tb\nü�"
