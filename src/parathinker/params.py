"""What a request can ask for, in one validated object."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from parathinker.errors import UsageError

TERMINATIONS = ("first-finish", "half-finish", "last-finish")
DEFAULT_TERMINATION = TERMINATIONS[0]
DEFAULT_TEMPERATURE = 0.5
"""The released model's; a checkpoint may carry its own."""
DEFAULT_MAX_PATH_TOKENS = 16_384
DEFAULT_MAX_SUMMARY_TOKENS = 2_048
AUTO = "auto"
AUTO_WAVE = 2
"""With ``paths="auto"``: how many paths to begin with, and how many to add at a time."""
DEFAULT_AUTO_PATHS = 8

_INTEGERS = {
    "max_paths": AUTO_WAVE,
    "max_path_tokens": 1,
    "max_summary_tokens": 1,
    "min_path_tokens": 0,
    "min_summary_tokens": 0,
    "rounds": 1,
    "top_k": 0,
    "top_logprobs": 0,
    "seed": 0,
    "budget": 1,
}
_PLAIN = (
    *("max_path_tokens", "min_path_tokens", "continuation", "temperature", "top_p", "top_k"),
    *("min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed", "logprobs"),
    *("top_logprobs", "stop", "stop_token_ids"),
)
"""What means something where nothing is thought."""
_NUMBERS = {
    "temperature": (0.0, math.inf, "0 or more, and finite"),
    "summary_temperature": (0.0, math.inf, "0 or more, and finite"),
    "top_p": (0.0, 1.0, "above 0, at most 1"),
    "min_p": (0.0, 1.0, "from 0 to 1"),
    "repetition_penalty": (0.0, math.inf, "above 0, and finite"),
    "frequency_penalty": (-math.inf, math.inf, "a finite number"),
    "presence_penalty": (-math.inf, math.inf, "a finite number"),
}


@dataclass(frozen=True)
class ThinkingParams:
    """How to think about one question.

    ``None`` leaves a choice to the checkpoint's own defaults, then to this module's.
    """

    paths: int | str = 8
    """How many paths think side by side, from 1 to the model's P_max; or ``"auto"``: begin with
    few, and add more only while their answers disagree."""
    max_paths: int | None = None
    """With ``paths="auto"``: how many there may be; by default 8, or as many as the model has."""
    thought_ids: tuple[int, ...] | None = None
    """Which ``<think i>`` open the paths, one for each, all different; by default the first."""
    max_path_tokens: int | None = None
    """Tokens that a path may have after its ``<think i>``, the closing token included."""
    max_summary_tokens: int | None = None
    """Tokens that the summary may have after its forced beginning."""
    min_path_tokens: int = 0
    """Tokens that a path has to have before it may close."""
    min_summary_tokens: int = 0
    """Tokens that the summary has to have, after its forced beginning, before it may end."""
    continuation: str | None = None
    """Text written in place of a path's end that comes before ``min_path_tokens``, such as
    ``"Wait"`` (budget forcing, arXiv 2501.19393); by default early ends are not sampled at all."""
    termination: str | None = None
    """When thinking ends: once the first path has closed (``first-finish``), or half of them, or
    all; by default as the checkpoint says, else with the first. With
    ``paths="auto"`` all paths run until they close, whatever is said here."""
    rounds: int = 1
    """How often to think: paths of a later round read all rounds before, and their summaries."""
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
    repetition_penalty: float = 1.0
    """Divides the logits of tokens that the prompt or the path itself has; 1 changes nothing."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit for each time that the path has it."""
    presence_penalty: float = 0.0
    """Taken off a token's logit once if the path has it."""
    seed: int | None = None
    """Same seed, same answer; None draws one, which the answer names."""
    logprobs: bool = True
    """Report each token's log-probability under the raw logits."""
    top_logprobs: int = 0
    """Report so many likeliest tokens wherever one was chosen, with their log-probabilities."""
    stop: tuple[str, ...] = ()
    """Texts that end a path or the summary once they appear in it."""
    summary_stop: tuple[str, ...] = ()
    """Texts that end the summary only."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end a path or the summary, like its closing token."""
    path_prefix: str | tuple[str | tuple[int, ...], ...] | None = None
    """Text that every path begins with, forced; or one for each path, each a text or token ids. It
    counts as the path's."""
    summary_prefix: str | None = None
    """Text that the summary begins with, forced."""
    budget: int | None = None
    """Tokens that all paths of a round together may have, their ``<think i>`` not counted."""

    def __post_init__(self) -> None:
        if self.paths != AUTO:
            _integer("paths", self.paths, 1, f'a whole number from 1, or "{AUTO}"')
        elif self.termination == "half-finish":
            raise _error("termination", self.termination, 'left as it is with paths="auto"')
        for name, least in _INTEGERS.items():
            if not self._is_open(name):
                _integer(name, getattr(self, name), least)
        for name, (lowest, highest, allowed) in _NUMBERS.items():
            if not self._is_open(name):
                _number(name, getattr(self, name), lowest, highest, allowed)
        for name in ("top_p", "repetition_penalty"):
            if getattr(self, name) == 0:
                raise _error(name, getattr(self, name), _NUMBERS[name][2])
        if self.termination not in (None, *TERMINATIONS):
            raise _error("termination", self.termination, f"one of {', '.join(TERMINATIONS)}")
        if not isinstance(self.logprobs, bool):
            raise _error("logprobs", self.logprobs, "true or false")
        for name in ("summary_prefix", "continuation"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise _error(name, getattr(self, name), "a text")
        self._check_lists()
        self._check_together()

    def _is_open(self, name: str) -> bool:
        """Whether the choice is left to the defaults, where it may be."""
        return getattr(self, name) is None and getattr(type(self), name) is None

    def _check_lists(self) -> None:
        for name in ("stop", "summary_stop"):
            stop: Any = getattr(self, name)
            if isinstance(stop, str):
                stop = (stop,)
            if not _all_of(stop, str) or "" in stop:
                raise _error(name, stop, "non-empty texts")
            object.__setattr__(self, name, tuple(stop))
        if not _are_tokens(self.stop_token_ids):
            raise _error("stop_token_ids", self.stop_token_ids, "token ids")
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        self._check_thought_ids()
        prefix: Any = self.path_prefix
        if prefix is None or isinstance(prefix, str):
            return
        listed = isinstance(prefix, (list, tuple)) and len(prefix) == self.paths
        if not listed or not all(isinstance(p, str) or _are_tokens(p) for p in prefix):
            each = f", or one for each of {self.paths} paths, texts or lists of token ids"
            raise _error("path_prefix", prefix, f"a text{'' if self.paths == AUTO else each}")
        one_each = (p if isinstance(p, str) else tuple(p) for p in prefix)
        object.__setattr__(self, "path_prefix", tuple(one_each))

    def _check_thought_ids(self) -> None:
        ids: Any = self.thought_ids
        if ids is None:
            return
        if self.paths == AUTO:
            raise _error("thought_ids", ids, f'left out with paths="{AUTO}"')
        counted = _all_of(ids, int) and len(set(ids)) == len(ids) == self.paths
        if not counted or min(ids) < 1:
            raise _error("thought_ids", ids, f"{self.paths} different whole numbers from 1")
        object.__setattr__(self, "thought_ids", tuple(ids))

    def _check_together(self) -> None:
        """What depends on several fields."""
        for name in ("path", "summary"):
            least, most = getattr(self, f"min_{name}_tokens"), getattr(self, f"max_{name}_tokens")
            if most is not None and least > most:
                raise _error(f"min_{name}_tokens", least, f"at most max_{name}_tokens, {most}")
        if self.continuation is not None and not self.min_path_tokens:
            raise _error(
                "continuation", self.continuation, "given with min_path_tokens, which calls for it"
            )
        if self.max_paths is not None and self.paths != AUTO:
            raise _error("max_paths", self.max_paths, f'given with paths="{AUTO}" only')
        first = AUTO_WAVE if self.paths == AUTO else self.paths
        if self.budget is not None and self.budget < int(first):
            raise _error("budget", self.budget, f"at least a token for each of {first} paths")

    def check_plain(self) -> None:
        """Make sure that they fit a completion, which is one text without paths and summary.

        Raises:
            UsageError: a field says something of paths or summary; ``paths`` may be 1.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            alike = value == field.default or (field.name == "paths" and value == 1)
            if field.name not in _PLAIN and not alike:
                raise _error(
                    field.name,
                    value,
                    f"left at {field.default!r} for a completion: it has no paths and no summary",
                )


def paths_to_finish(paths: int, termination: str) -> int:
    """How many of so many paths have to close before thinking ends."""
    return {"first-finish": 1, "half-finish": (paths + 1) // 2}.get(termination, paths)


def _error(name: str, value: Any, allowed: str) -> UsageError:
    return UsageError(f"{name} should be {allowed}; got {value!r}")


def _all_of(values: Any, kind: type) -> bool:
    """Whether it is a list or tuple of nothing else; booleans do not count as whole numbers."""
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, kind) and not isinstance(value, bool) for value in values
    )


def _are_tokens(values: Any) -> bool:
    """Whether it is a list or tuple of what may be token ids."""
    return _all_of(values, int) and all(value >= 0 for value in values)


def _integer(name: str, value: Any, least: int, allowed: str | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _error(name, value, allowed or f"a whole number from {least}")


def _number(name: str, value: Any, least: float, most: float, allowed: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        good = number and math.isfinite(value) and least <= value <= most
    except OverflowError:  # a whole number too large for a float
        good = False
    if not good:
        raise _error(name, value, allowed)
