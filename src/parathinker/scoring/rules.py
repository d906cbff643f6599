"""How one answer is scored. Runs in a worker process: what is called here may never come back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from parathinker.scoring.extract import (
    as_number,
    first_number,
    last_number,
    marked_answer,
    plain,
)

BARE_LENGTH = 60
"""Characters of a text that may be an answer and nothing else, such as ``x^2 + 1``."""


class UnknownTaskError(Exception):
    """reasoning-gym has no task of the name that a question gives."""


def load(task: str | None) -> None:
    """Import what scoring takes, so that no answer's time goes into it.

    Raises:
        ImportError: it is not installed.
        UnknownTaskError: reasoning-gym has no such task.
    """
    if task is None:
        import math_verify  # noqa: F401
    else:
        _task_scorer(task)


def score_by_task(task: str, entry: dict[str, Any], text: str) -> float:
    """reasoning-gym's own score of an answer to one of its entries, 0 to 1."""
    return float(_task_scorer(task)(bare_answer(text, entry.get("answer")), entry))


def bare_answer(text: str, expected: Any) -> str:
    """What reasoning-gym's scorers take for an answer: nothing but the answer.

    Most compare strings, and some read the first number that they find, so a sentence fails. Where
    a number is expected, it is read off the text and spelled as expected if it is equal; where
    anything else is, it is what the text marks as its answer, or all of the text.
    """
    marked = marked_answer(text)
    value = as_number(expected) if isinstance(expected, str) else None
    if value is None:
        return text.strip() if marked is None else marked
    given = last_number(text) if marked is None else _number_in(marked)
    if given is None:
        return ""
    return str(expected) if as_number(given) == value else given


def score_by_reference(reference: str, text: str) -> float:
    """1 if the text comes to an answer equal to the reference, by math-verify; else 0."""
    return float(any(_equal(reference, given) for given in _answers(text)))


def _answers(text: str) -> list[str]:
    """What may be the answer: what is marked as such; else a short text itself, or its number."""
    marked = marked_answer(text)
    if marked is not None:
        return [marked]
    alone = [text.strip()] if len(text) <= BARE_LENGTH and len(text.split("\n")) == 1 else []
    number = last_number(text)
    return [*alone, number] if number is not None else alone


def _equal(reference: str, given: str) -> bool:
    if plain(given) == plain(reference):
        return True
    from math_verify import verify

    return bool(verify(_parse(reference), _parse(given), timeout_seconds=None))


def _number_in(marked: str) -> str | None:
    value = as_number(marked)
    if value is None:
        return first_number(marked)
    return str(value.numerator) if value.denominator == 1 else marked


def _parse(answer: str) -> list[Any]:
    """An answer as sympy expressions: read as LaTeX, and, unless that works, as plain text."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    latex = LatexExtractionConfig(boxed_match_priority=0)
    # The time limits of math-verify are signals in this process; the limit here is the process's.
    parsed = parse(f"\\boxed{{{answer}}}", [latex], parsing_timeout=None)
    if all(isinstance(one, str) for one in parsed):
        parsed = [*parse(answer, [ExprExtractionConfig()], parsing_timeout=None), *parsed]
    return list(parsed)


@cache
def _task_scorer(task: str) -> Callable[[str, dict[str, Any]], float]:
    import reasoning_gym

    try:
        scorer: Callable[[str, dict[str, Any]], float] = reasoning_gym.get_score_answer_fn(task)
    except ValueError as error:
        raise UnknownTaskError(str(error)) from error
    return scorer
