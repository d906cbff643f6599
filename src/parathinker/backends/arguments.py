"""An engine's own arguments, as a command line, a settings file or the environment gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from parathinker.errors import UsageError


def read_arguments(given: Mapping[str, Any] | Sequence[str] | str | None) -> dict[str, Any]:
    """Names and values from a mapping, from NAME=VALUE texts, or from such with commas between.

    A value is read as JSON where it is JSON, and is a text else; so ``tensor_parallel_size=2`` is a
    number and ``quantization=fp8`` a text.

    Raises:
        UsageError: a text is no NAME=VALUE, or a name comes twice.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    found: dict[str, Any] = {}
    for text in given.split(",") if isinstance(given, str) else given:
        name, equals, value = text.strip().partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UsageError(f"an engine argument should be NAME=VALUE; got {text!r}")
        if name in found:
            raise UsageError(f"the engine argument {name} is given twice")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = {"True": True, "False": False, "None": None}.get(value, value)
    return found
