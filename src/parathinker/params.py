"""What a request can ask for, in one validated object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from parathinker.errors import UsageError

TERMINATIONS = ("first-finish", "half-finish", "last-finish")
DEFAULT_TEMPERATURE = 0.5
"""The released model's; a checkpoint may carry its own."""
DEFAULT_MAX_PATH_TOKENS = 16_384
DEFAULT_MAX_SUMMARY_TOKENS = 2_048


@dataclass(frozen=True)
class ThinkingParams:
    """How to think about one question.

    ``None`` leaves a choice to the checkpoint's own defaults, then to this module's.
    """

    paths: int = 8
    """How many paths think side by side; from 1 to the model's P_max."""
    max_path_tokens: int | None = None
    """Tokens that a path may have after its ``<think i>``, the closing token included."""
    max_summary_tokens: int | None = None
    """Tokens that the summary may have after its forced beginning."""
    termination: str = "first-finish"
    """When thinking ends: once the first path has closed, or half of them, or all."""
    temperature: float | None = None
    """Sampling temperature of the paths; 0 is greedy."""
    summary_temperature: float | None = None
    """Sampling temperature of the summary; by default the checkpoint's, or that of the paths."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Sample from so many likeliest tokens; 0 is no limit."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the likeliest."""
    seed: int | None = None
    """Same seed, same answer; None draws one, which the answer names."""
    logprobs: bool = True
    """Record each token's log-probability under the raw logits."""
    stop: tuple[str, ...] = ()
    """Texts that end a path or the summary once they appear in it."""
    summary_prefix: str | None = None
    """Text that the summary begins with, forced."""
    budget: int | None = None
    """Tokens that all paths together may have, their ``<think i>`` not counted."""

    def __post_init__(self) -> None:
        _integer("paths", self.paths, 1)
        _integer("top_k", self.top_k, 0)
        for name in ("max_path_tokens", "max_summary_tokens", "budget"):
            if getattr(self, name) is not None:
                _integer(name, getattr(self, name), 1)
        if self.seed is not None:
            _integer("seed", self.seed, 0)
        for name in ("temperature", "summary_temperature"):
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), 0.0, math.inf, "0 or more, and finite")
        _number("top_p", self.top_p, 0.0, 1.0, "above 0, at most 1")
        if self.top_p == 0:
            raise _error("top_p", self.top_p, "above 0, at most 1")
        _number("min_p", self.min_p, 0.0, 1.0, "from 0 to 1")
        if self.termination not in TERMINATIONS:
            raise _error("termination", self.termination, f"one of {', '.join(TERMINATIONS)}")
        if not isinstance(self.logprobs, bool):
            raise _error("logprobs", self.logprobs, "true or false")
        stop: Any = self.stop
        if isinstance(stop, str):
            stop = (stop,)
        if not isinstance(stop, (tuple, list)) or any(
            not isinstance(text, str) or not text for text in stop
        ):
            raise _error("stop", stop, "non-empty texts")
        object.__setattr__(self, "stop", tuple(stop))
        if self.summary_prefix is not None and not isinstance(self.summary_prefix, str):
            raise _error("summary_prefix", self.summary_prefix, "a text")
        if self.budget is not None and self.budget < self.paths:
            raise _error("budget", self.budget, f"at least a token for each of {self.paths} paths")

    @property
    def paths_to_finish(self) -> int:
        """How many paths have to close before thinking ends."""
        return {"first-finish": 1, "half-finish": (self.paths + 1) // 2}.get(
            self.termination, self.paths
        )


def _error(name: str, value: Any, allowed: str) -> UsageError:
    return UsageError(f"{name} should be {allowed}; got {value!r}")


def _integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _error(name, value, f"a whole number from {least}")


def _number(name: str, value: Any, least: float, most: float, allowed: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        good = number and math.isfinite(value) and least <= value <= most
    except OverflowError:  # a whole number too large for a float
        good = False
    if not good:
        raise _error(name, value, allowed)
