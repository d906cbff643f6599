"""What comes back: the answer with all its paths, and the events it arrives as."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from parathinker.params import ThinkingParams


@dataclass(frozen=True)
class Path:
    """One path of thought."""

    thought_id: int
    """1 to P: the path opened with ``<think i>``."""
    text: str
    """Without control tokens."""
    token_ids: list[int]
    """Exactly the path's tokens in the model's context, control tokens included."""
    logprobs: list[float | None]
    """Log-softmax of the raw logits at each token; None where the token was forced."""
    finish_reason: str
    """``stop``: it closed by itself; ``length``: out of tokens; ``cut``: others finished first."""
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    """With ``ThinkingParams.top_logprobs``: at each token the likeliest ids and their
    log-probabilities, the likeliest first; nothing where the token was forced."""


@dataclass(frozen=True)
class Summary:
    """What was written after reading all paths; fields as in :class:`Path`."""

    text: str
    token_ids: list[int]
    logprobs: list[float | None]
    finish_reason: str
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)


@dataclass(frozen=True)
class Round:
    """One round of thinking: paths, and the summary that read them."""

    paths: list[Path]
    summary: Summary


@dataclass(frozen=True)
class Usage:
    """Tokens of this turn, over all its rounds, control tokens included."""

    prompt_tokens: int
    path_tokens: int
    """Of all paths together."""
    summary_tokens: int
    cached_tokens: int
    """Tokens of prompt and history whose keys and values were there from an earlier request."""
    total_tokens: int


@dataclass(frozen=True)
class Timings:
    """Wall-clock seconds, from when the engine took the request."""

    prefill_s: float
    """Until all paths had their first token."""
    think_s: float
    """From there until thinking ended, in the last round."""
    summary_ttft_s: float
    """From there to the summary's first token."""
    summary_s: float
    """From the end of thinking to the end of the summary."""
    total_s: float


@dataclass(frozen=True)
class Answer:
    """A question thought through."""

    text: str
    """What the summary says."""
    paths: list[Path]
    """Of the last round."""
    summary: Summary
    """Of the last round."""
    rounds: list[Round]
    """All rounds in order."""
    prompt_token_ids: list[int]
    """What this turn added to the context before thinking began."""
    usage: Usage
    timings: Timings
    params: ThinkingParams
    """As used: every default filled in, the seed included, so that it can be repeated."""

    after: Answer | None = field(default=None, repr=False)
    """The answer that this one's question followed up."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: this turn alone; ``rounds`` only where there are several."""
        turn = dataclasses.asdict(dataclasses.replace(self, after=None))
        del turn["after"]
        if len(self.rounds) == 1:
            del turn["rounds"]
        return turn


@dataclass(frozen=True)
class PathToken:
    """A path grew by a token; ``text`` is what became readable with it, often empty."""

    thought_id: int
    token_id: int
    text: str
    logprob: float | None
    round: int = 1
    top_logprobs: tuple[tuple[int, float], ...] = ()
    """With ``ThinkingParams.top_logprobs``: as in :class:`Path`."""


@dataclass(frozen=True)
class PathEnd:
    """A path is complete."""

    thought_id: int
    finish_reason: str
    round: int = 1


@dataclass(frozen=True)
class SummaryToken:
    """The summary grew by a token; fields as in :class:`PathToken`."""

    token_id: int
    text: str
    logprob: float | None
    round: int = 1
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Done:
    """The last event: the whole answer."""

    answer: Answer


StreamEvent = PathToken | PathEnd | SummaryToken | Done
