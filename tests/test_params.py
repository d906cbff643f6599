"""Every field of a request is checked, and the error says which, what and what is allowed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker import ParaThinkerError, ThinkingParams, UsageError

BAD = {
    "paths": ([0, -1, 1.5, "8", None, True, math.nan, [8]], "a whole number from 1"),
    "max_path_tokens": ([0, -5, 2.0, "9", False, math.inf], "a whole number from 1"),
    "max_summary_tokens": ([0, -5, 2.0, "9", True], "a whole number from 1"),
    "budget": ([0, -1, 10.0, "10", 7], None),
    "termination": (["first", "", None, 3, ["last-finish"]], "first-finish, half-finish"),
    "temperature": (
        [-0.1, math.nan, math.inf, -math.inf, "1", True, [1.0], 10**400],
        "0 or more, and finite",
    ),
    "summary_temperature": ([-1, math.nan, math.inf, "0"], "0 or more, and finite"),
    "top_p": ([0, 0.0, -0.5, 1.01, math.nan, None, "1", True], "above 0, at most 1"),
    "min_p": ([-0.01, 1.1, math.nan, None, "0"], "from 0 to 1"),
    "top_k": ([-1, 0.5, None, "5", True], "a whole number from 0"),
    "seed": ([-1, 0.5, "7", True, math.nan], "a whole number from 0"),
    "logprobs": ([1, 0, None, "yes"], "true or false"),
    "stop": ([("",), ("a", 3), "", 5, None, [None], b"ab", {"a": 1}], "non-empty texts"),
    "summary_prefix": ([3, ["So"], b"So"], "a text"),
}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for name, (values, allowed) in BAD.items() for value in values],
)
def test_a_bad_value_is_refused_by_name_with_what_is_allowed(name, value, allowed):
    with pytest.raises(UsageError) as caught:
        ThinkingParams(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} should be ")
    assert allowed is None or allowed in message
    got = (value,) if name == "stop" and isinstance(value, str) else value
    assert f"got {got!r}" in message
    assert isinstance(caught.value, ParaThinkerError)
    assert isinstance(caught.value, ValueError)


def test_every_field_has_bad_values_here():
    assert set(BAD) == set(ThinkingParams.__dataclass_fields__)


def test_a_budget_has_a_token_for_each_path():
    assert ThinkingParams(paths=3, budget=3).budget == 3
    with pytest.raises(UsageError, match=r"budget should be .* each of 3 paths; got 2"):
        ThinkingParams(paths=3, budget=2)


@pytest.mark.parametrize(
    "good",
    [
        {"paths": 1},
        {"temperature": 0},
        {"temperature": 5e-324},
        {"top_p": 1},
        {"top_p": 1e-9},
        {"min_p": 1},
        {"seed": 2**80},
        {"summary_prefix": ""},
        {"stop": ["a", "b"]},
    ],
)
def test_values_at_the_edge_are_taken(good):
    ThinkingParams(**good)


def test_a_single_stop_text_counts_as_a_list_of_one():
    assert ThinkingParams(stop="END").stop == ("END",)
    assert ThinkingParams(stop=["a", "b"]).stop == ("a", "b")


@pytest.mark.parametrize(
    ("termination", "expected"),
    [
        ("first-finish", [1, 1, 1, 1, 1]),
        ("half-finish", [1, 1, 2, 2, 4]),
        ("last-finish", [1, 2, 3, 4, 8]),
    ],
)
def test_terminations_wait_for_one_path_for_half_of_them_or_for_all(termination, expected):
    assert [
        ThinkingParams(paths=p, termination=termination).paths_to_finish for p in (1, 2, 3, 4, 8)
    ] == expected


words = st.sampled_from(["", "a", "8", "last-finish", "é"])
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    words,
    st.lists(words, max_size=2),
)


@given(st.dictionaries(st.sampled_from(sorted(BAD)), anything, max_size=3))
def test_whatever_is_asked_is_taken_or_refused_with_a_usage_error(fields):
    try:
        params = ThinkingParams(**fields)
    except UsageError:
        return
    assert 1 <= params.paths_to_finish <= params.paths
