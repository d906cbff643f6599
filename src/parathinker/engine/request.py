"""What goes into the engine and what comes out: requests in token ids, events as they happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parathinker.graph import Layout

STOP, LENGTH, CUT = "stop", "length", "cut"

Tokens = tuple[int, ...]
Likeliest = tuple[tuple[int, float], ...]
"""Token ids with their log-probabilities, the likeliest first."""


@dataclass(frozen=True)
class Penalties:
    """How tokens that were written already lose weight; the neutral values change nothing."""

    repetition: float = 1.0
    """Divides logits of tokens of the prompts and of the segment itself."""
    frequency: float = 0.0
    """Taken off for each time that the segment has the token."""
    presence: float = 0.0
    """Taken off once if the segment has the token."""


@dataclass(frozen=True)
class Growth:
    """How far a segment may and must grow, and how its tokens are chosen."""

    max_tokens: int
    """Tokens behind what was forced at its beginning; for a path, behind its opening token."""
    min_tokens: int
    """It may not end before it has so many."""
    temperature: float


@dataclass(frozen=True)
class AutoWidth:
    """Begin with a few paths, and add as many again until they agree."""

    wave: int
    agree: Callable[[Sequence[Sequence[int]]], bool]
    """Whether complete paths, as token ids, agree enough to stop."""


@dataclass(frozen=True)
class PastRound:
    """Paths by thought id and the summary that was written after them, all tokens complete."""

    paths: tuple[tuple[int, Tokens], ...]
    summary: Tokens


@dataclass(frozen=True)
class PastTurn:
    """An earlier question with what was thought about it."""

    prompt: Tokens
    rounds: tuple[PastRound, ...]


@dataclass(frozen=True)
class EngineRequest:
    """A request in token ids, every choice made."""

    prompt: Tokens
    thought_ids: Tokens
    """Which control tokens open the paths, in the order in which paths are reported."""
    paths_to_finish: int
    """Thinking ends when so many paths have closed."""
    path: Growth
    summary: Growth
    budget: int | None
    """Tokens of all paths of a round together, their opening tokens not counted."""
    summary_prefix: Tokens
    top_k: int
    top_p: float
    min_p: float
    seed: int
    top_logprobs: int = 0
    """How many likeliest tokens to report beside each chosen one."""
    path_prefixes: tuple[Tokens, ...] = ()
    """What each path begins with behind its opening token; none for all if empty."""
    continuation: Tokens = ()
    """Written in place of an end of a path, or of plain text, that comes too early; if empty, early
    ends are banned."""
    penalties: Penalties = field(default_factory=Penalties)
    end_ids: frozenset[int] = frozenset()
    """The tokenizer's end-of-sequence tokens and the request's own; they end a segment like its
    closing token."""
    stop: Callable[[Sequence[int]], bool] | None = None
    """Whether the last token of what a segment wrote completes one of the request's stop texts."""
    summary_stop: Callable[[Sequence[int]], bool] | None = None
    """The same for texts that end a summary only."""
    rounds: int = 1
    auto: AutoWidth | None = None
    history: tuple[PastTurn, ...] = ()
    """Earlier turns of the conversation; the prompt follows their last summary."""
    given_paths: tuple[Tokens, ...] | None = None
    """What each path says between its opening and closing token; such a request only sums up."""
    layout: Layout = Layout.PARALLEL
    """Of given paths; paths that are thought are always parallel."""
    plain: bool = False
    """Nothing is thought: the text goes on from the prompt as any causal language model has it,
    and ends at ``end_ids``. It grows by ``summary``; ``continuation`` stands in for its end."""


@dataclass(frozen=True)
class TokenEvent:
    """A token joined a segment; thought id 0 is the summary, or plain text."""

    round: int
    thought_id: int
    token_id: int
    logprob: float | None
    """None where it was forced."""
    top_logprobs: Likeliest
    last: bool
    """Whether it is the segment's last."""


@dataclass(frozen=True)
class EndEvent:
    """A segment is complete."""

    round: int
    thought_id: int
    finish_reason: str


Event = TokenEvent | EndEvent
