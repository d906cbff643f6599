"""The ways to spend a budget of tokens that are compared: a small class each."""

from __future__ import annotations

import difflib

from parathinker.errors import UsageError
from parathinker.evaluation.methods.base import Method, option_of
from parathinker.evaluation.methods.single import Sequential
from parathinker.evaluation.methods.summing import (
    FlatPositions,
    Parallel,
    Reprefill,
    Shuffled,
    Withheld,
)
from parathinker.evaluation.methods.tree import Tree
from parathinker.evaluation.methods.voting import Best, Confidence, Likeliest, Majority, Short

__all__ = ["METHODS", "Method", "parse_method"]

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Sequential,
        Majority,
        Confidence,
        Likeliest,
        Short,
        Best,
        Reprefill,
        Tree,
        Parallel,
        FlatPositions,
        Withheld,
        Shuffled,
    )
}


def parse_method(text: str) -> Method:
    """A method from its name and options, as in ``parallel:termination=last-finish``.

    Raises:
        UsageError: an unknown method or option, or a value that is not allowed.
    """
    name, _, options = text.partition(":")
    method = METHODS.get(name)
    if method is None:
        close = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(METHODS)}"
        raise UsageError(f"there is no method {name!r}; {hint}")
    given = {}
    for part in options.split(",") if options else []:
        option, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"method {text}: options are written as name=value; got {part!r}")
        given[option.strip()] = option_of(method, option.strip(), value.strip())
    return method(**given)
