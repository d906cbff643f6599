"""What a path answered, and when paths agree enough to stop adding more."""

from __future__ import annotations

import time

import pytest

from parathinker.agreement import agree, answer_in

ANSWERS = {
    "a boxed answer": (r"so \boxed{42}, not 41", "42"),
    "the last box": (r"\boxed{1} or rather \boxed{2}", "2"),
    "a box that was never closed": (r"\boxed{7} and then \boxed{8", "7"),
    "braces within braces": (r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{\sqrt{2}}{2}"),
    "a box of a letter": (r"\boxed{ (B) }", "(b)"),
    "the last number": ("12 * 34 = 408", "408"),
    "a negative number": ("the result is -7", "-7"),
    "a difference that is no sign": ("12-7", "7"),
    "thousands separators": ("that makes 1,234,567.", "1234567"),
    "idle decimals": ("42.00", "42"),
    "a boxed number as a plain one": (r"\boxed{1,234}", "1234"),
    "a fraction as a decimal": ("3/4", answer_in("0.75")),
    "division by zero": ("1/0", "1/0"),
    "an exponent that would fill the memory": (r"\boxed{1e999999999}", "1e999999999"),
    "the last line": ("I think\nthat it is Paris.\n\n", "that it is paris"),
    "nothing": (" \n ", None),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answer_is_read_off_a_text(what: str) -> None:
    text, expected = ANSWERS[what]
    assert answer_in(text) == expected


def test_different_boxes_do_not_look_alike() -> None:
    halves = [rf"\boxed{{\frac{{\sqrt{{{n}}}}}{{2}}}}" for n in (2, 3)]
    assert answer_in(halves[0]) != answer_in(halves[1])


def test_a_number_of_thousands_of_digits_is_an_answer_too() -> None:
    assert answer_in("7" * 9000) == "7" * 9000


def test_reading_takes_no_longer_than_the_text_is_long() -> None:
    began = time.process_time()
    assert answer_in(r"\boxed{" * 30_000) is not None
    assert answer_in("-" * 100_000) is not None
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "1"], True),
        (["1", "2"], False),
        (["1"], False),
        ([], False),
        (["1", "1", "2", "2"], False),
        (["1", "1", "1", "2"], True),
        (["1", "1.0", "x"], True),
        (["", " "], False),
    ],
)
def test_agreement_is_more_than_half_and_at_least_two(texts: list[str], expected: bool) -> None:
    assert agree(texts, answer_in) is expected


def test_texts_without_an_answer_count_against_the_others() -> None:
    assert not agree(["5", "5", "", ""], answer_in)
