"""Every field of a request is checked, and the error says which, what and what is allowed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker import ParaThinkerError, ThinkingParams, UsageError
from parathinker.params import TERMINATIONS, paths_to_finish

A_NUMBER = "a finite number"
BAD = {
    "paths": (
        [0, -1, 1.5, "8", None, True, math.nan, [8], "Auto"],
        'a whole number from 1, or "auto"',
    ),
    "max_paths": ([0, 1, 2.0, "9", True, 4], None),
    "thought_ids": (
        [3, (1, 2), (0, *range(1, 8)), (1, *range(1, 8)), (1.0, *range(2, 9)), "12345678"],
        "8 different whole numbers from 1",
    ),
    "max_path_tokens": ([0, -5, 2.0, "9", False, math.inf], "a whole number from 1"),
    "max_summary_tokens": ([0, -5, 2.0, "9", True], "a whole number from 1"),
    "min_path_tokens": ([-1, 2.0, "9", None, True], "a whole number from 0"),
    "min_summary_tokens": ([-1, 2.0, "9", None, True], "a whole number from 0"),
    "continuation": ([3, ["Wait"], b"Wait"], "a text"),
    "budget": ([0, -1, 10.0, "10", 7], None),
    "rounds": ([0, -1, 1.0, "2", None, True], "a whole number from 1"),
    "termination": (["first", "", 3, ["last-finish"]], "first-finish, half-finish"),
    "temperature": (
        [-0.1, math.nan, math.inf, -math.inf, "1", True, [1.0], 10**400],
        "0 or more, and finite",
    ),
    "summary_temperature": ([-1, math.nan, math.inf, "0"], "0 or more, and finite"),
    "top_p": ([0, 0.0, -0.5, 1.01, math.nan, None, "1", True], "above 0, at most 1"),
    "min_p": ([-0.01, 1.1, math.nan, None, "0"], "from 0 to 1"),
    "top_logprobs": ([-1, 0.5, None, "5", True], "a whole number from 0"),
    "top_k": ([-1, 0.5, None, "5", True], "a whole number from 0"),
    "repetition_penalty": ([0, -1.0, math.nan, math.inf, None, "1", True], "above 0, and finite"),
    "frequency_penalty": ([math.nan, math.inf, None, "0", True], A_NUMBER),
    "presence_penalty": ([math.nan, -math.inf, None, "0", True], A_NUMBER),
    "seed": ([-1, 0.5, "7", True, math.nan], "a whole number from 0"),
    "logprobs": ([1, 0, None, "yes"], "true or false"),
    "stop": ([("",), ("a", 3), "", 5, None, [None], b"ab", {"a": 1}], "non-empty texts"),
    "summary_stop": ([("",), ("a", 3), "", 5, None, [None], {"a": 1}], "non-empty texts"),
    "stop_token_ids": ([5, (-1,), [1.0], ["a"], None, (True,), {3}], "token ids"),
    "path_prefix": (
        [3, ("a",), ("a",) * 9, [1] * 8, [[-1]] * 8, [[True]] * 8, b"a"],
        "a text, or one for each of 8 paths",
    ),
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
    got = (value,) if name in ("stop", "summary_stop") and isinstance(value, str) else value
    assert f"got {got!r}" in message
    assert isinstance(caught.value, ParaThinkerError)
    assert isinstance(caught.value, ValueError)


def test_every_field_has_bad_values_here():
    assert set(BAD) == set(ThinkingParams.__dataclass_fields__)


def test_paths_may_be_left_to_the_model():
    ThinkingParams(paths="auto", max_paths=2)
    with pytest.raises(UsageError, match=r'termination should be left .* paths="auto"; got .half'):
        ThinkingParams(paths="auto", termination="half-finish")
    with pytest.raises(UsageError, match=r"max_paths should be a whole number from 2; got 1"):
        ThinkingParams(paths="auto", max_paths=1)
    with pytest.raises(UsageError, match=r'max_paths should be given with paths="auto" only'):
        ThinkingParams(paths=4, max_paths=4)
    with pytest.raises(UsageError, match=r"path_prefix should be .*got \('a', 'b'\)"):
        ThinkingParams(paths="auto", path_prefix=("a", "b"))
    with pytest.raises(UsageError, match="thought_ids should be left out"):
        ThinkingParams(paths="auto", thought_ids=(1, 2))
    assert ThinkingParams(paths="auto", path_prefix="a").path_prefix == "a"


@pytest.mark.parametrize("name", ["path", "summary"])
def test_the_least_length_is_at_most_the_largest(name):
    least, most = f"min_{name}_tokens", f"max_{name}_tokens"
    ThinkingParams(**{least: 5, most: 5})
    with pytest.raises(UsageError, match=rf"{least} should be at most {most}, 4; got 5"):
        ThinkingParams(**{least: 5, most: 4})


def test_a_continuation_comes_with_a_least_length_that_calls_for_it():
    assert ThinkingParams(continuation="Wait", min_path_tokens=3).continuation == "Wait"
    with pytest.raises(UsageError, match=r"continuation should be given with min_path_tokens"):
        ThinkingParams(continuation="Wait")


def test_lists_of_a_request_do_not_change_with_the_callers():
    prefix, stops = ["a", "b"], [3, 4]
    params = ThinkingParams(paths=2, path_prefix=prefix, stop_token_ids=stops)
    prefix.append("c")
    stops.append(5)
    assert params.path_prefix == ("a", "b")
    assert params.stop_token_ids == (3, 4)
    hash(params)


def test_a_budget_has_a_token_for_each_path():
    assert ThinkingParams(paths=3, budget=3).budget == 3
    with pytest.raises(UsageError, match=r"budget should be .* each of 3 paths; got 2"):
        ThinkingParams(paths=3, budget=2)
    with pytest.raises(UsageError, match=r"budget should be .* each of 2 paths; got 1"):
        ThinkingParams(paths="auto", budget=1)


@pytest.mark.parametrize(
    "good",
    [
        {"paths": 1},
        {"temperature": 0},
        {"temperature": 5e-324},
        {"top_p": 1},
        {"top_p": 1e-9},
        {"min_p": 1},
        {"min_p": 0.0},
        {"frequency_penalty": -2.0},
        {"presence_penalty": 3},
        {"repetition_penalty": 1e-3},
        {"paths": "auto", "max_paths": 2, "budget": 2},
        {"paths": 2, "path_prefix": ["", "a"]},
        {"stop_token_ids": [0]},
        {"rounds": 99},
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
    assert [paths_to_finish(paths, termination) for paths in (1, 2, 3, 4, 8)] == expected


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
    assert params.paths == "auto" or params.paths >= 1
    assert params.termination in (None, *TERMINATIONS)
