"""What both ways of showing an answer say: a path's state, the closing line, safe text."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from parathinker.answer import Answer
from parathinker.data.tasks import Verdict
from parathinker.params import AUTO, ThinkingParams


@dataclass(frozen=True)
class PathState:
    """How a path stands, in words and in colour."""

    label: str
    style: str


THINKING = PathState("thinking", "cyan")
FIRST = PathState("finished first ✓", "bold green")
FINISHED = PathState("finished", "green")
CUT = PathState("cut", "yellow")
OUT_OF_TOKENS = PathState("out of tokens", "magenta")


def path_state(finish_reason: str | None, first: bool) -> PathState:
    """State of a path by its finish reason (None while it thinks) and whether it was the first."""
    if finish_reason == "stop":
        return FIRST if first else FINISHED
    return {None: THINKING, "cut": CUT, "length": OUT_OF_TOKENS}[finish_reason]


def path_states(
    paths: Mapping[int, tuple[str | None, int]], params: ThinkingParams
) -> dict[int, PathState]:
    """States of a round's paths.

    Args:
        paths: by thought id, the finish reason (None while it thinks) and the number of tokens.
    """
    first = first_finishers({i: n for i, (reason, n) in paths.items() if reason == "stop"}, params)
    return {i: path_state(reason, i in first) for i, (reason, _) in paths.items()}


def first_finishers(closed: Mapping[int, int], params: ThinkingParams) -> frozenset[int]:
    """Who closed first; paths that closed in the very same step tie.

    Args:
        closed: number of tokens of each path that closed by itself, by thought id.
    """
    if params.paths == AUTO:
        return frozenset()  # some began when others had finished
    if params.termination == "first-finish":
        return frozenset(closed)
    if params.continuation is not None or isinstance(params.path_prefix, tuple):
        return frozenset()  # they got tokens by the handful
    # All paths grow by a token a step, so the shortest were the first.
    return frozenset(i for i, tokens in closed.items() if tokens == min(closed.values()))


def cost(tokens: int, seconds: float) -> str:
    """Seconds and tokens a second."""
    return f"{seconds:.1f} s · {tokens / max(seconds, 1e-9):,.0f} tokens/s"


def closing_line(answer: Answer, verdict: Verdict) -> str:
    """Tokens, time, and whether the answer checks out."""
    usage = answer.usage
    tokens = usage.path_tokens + usage.summary_tokens
    reused = f"; {usage.cached_tokens:,} reused" if usage.cached_tokens else ""
    parts = [
        f"{tokens:,} tokens ({usage.path_tokens:,} paths + {usage.summary_tokens:,} summary"
        f"{reused})",
        cost(tokens, answer.timings.total_s),
    ]
    if verdict.correct is not None:
        wrong = "✗ wrong" if verdict.expected is None else f"✗ wrong, expected {verdict.expected}"
        parts.append("✓ correct" if verdict.correct else wrong)
    return " · ".join(parts)


def printable(text: str) -> str:
    """The text with control characters, which could steer a terminal, made visible as ``�``."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")
