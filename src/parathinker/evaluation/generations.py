"""What a model wrote, in units that methods share: segments, and the requests that make them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parathinker import Path, Summary
from parathinker.engine.request import CUT, LENGTH, STOP


@dataclass(frozen=True)
class Written:
    """One segment: a path, a chain, or a summary."""

    text: str
    token_ids: tuple[int, ...]
    """With opening and closing tokens: as many as a budget counts."""
    finish_reason: str
    thought_id: int = 0
    """0 is a summary."""
    confidences: tuple[float, ...] = ()
    """At each token that was chosen, minus the mean log-probability of the likeliest tokens: the
    token confidence of DeepConf (arXiv 2508.15260, section 3.1)."""
    logprobs: tuple[float, ...] = ()
    """Log-probabilities of the tokens that were chosen, where that was asked for."""

    @classmethod
    def of(cls, segment: Path | Summary) -> Written:
        """A segment of an answer."""
        confidences = [
            -sum(logprob for _, logprob in likeliest) / len(likeliest)
            for likeliest in segment.top_logprobs
            if likeliest
        ]
        return cls(
            segment.text,
            tuple(segment.token_ids),
            segment.finish_reason,
            segment.thought_id if isinstance(segment, Path) else 0,
            tuple(round(value, 4) for value in confidences),
            tuple(round(logprob, 4) for logprob in segment.logprobs if logprob is not None),
        )

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Written:
        """The other way of ``to_dict``."""
        lists = {name: tuple(raw[name]) for name in ("token_ids", "confidences", "logprobs")}
        return cls(**{**raw, **lists})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)

    @property
    def log_likelihood(self) -> float:
        """Of all tokens that were chosen."""
        return math.fsum(self.logprobs)

    @property
    def tokens(self) -> int:
        """How many a budget counts."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Generation:
    """What one request made."""

    key: str
    segments: tuple[Written, ...]
    seconds: float
    """On the clock, other requests running beside it."""


def key_of(kind: str, **determined_by: Any) -> str:
    """The name of a generation: a digest of all that it follows from."""
    text = json.dumps([kind, determined_by], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def shortened(path: Written, tokens: int, text: str, reason: str) -> Written:
    """The path as it would have been, had it had to close at a length.

    A path's tokens follow from its seed alone, not from where it ends; what was forced to end is
    its beginning, with its closing token in the last place.

    Args:
        tokens: its new length, opening and closing token included.
        text: what is left of its text.
    """
    ids = (*path.token_ids[: tokens - 1], path.token_ids[-1])
    chosen = max(0, tokens - 2)
    return Written(
        text, ids, reason, path.thought_id, path.confidences[:chosen], path.logprobs[:chosen]
    )


def end_of_thinking(lengths: Sequence[int], to_finish: int) -> int:
    """The length at which so many of the paths have closed; later ones are cut to it."""
    return sorted(lengths)[to_finish - 1]


__all__ = [
    "CUT",
    "LENGTH",
    "STOP",
    "Generation",
    "Written",
    "end_of_thinking",
    "key_of",
    "shortened",
]
