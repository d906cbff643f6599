"""What the tests of the vLLM backend share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from parathinker import Answer, ParaThinker, ThinkingParams
from reference import largest_difference, reference_logprobs, reference_model

TOLERANCE = 2e-4
BLOCK = 32
"""Tokens of a block; small, so that short questions have several."""
QUESTIONS = ("What is 48213 * 7689?", "Why?", "Ünïcode → 日本語 🙂 and a second line\nhere." * 3)

Start = Callable[..., ParaThinker]
reference = cache(reference_model)


def difference(folder: object, answer: Answer, **broken: object) -> float:
    """How far an answer is from the reference, or from one that gets something wrong."""
    return largest_difference(answer, reference_logprobs(reference(folder), answer, **broken))


def tokens(answer: Answer) -> list[list[int]]:
    """All that was written."""
    written = [path.token_ids for one in answer.rounds for path in one.paths]
    return written + [one.summary.token_ids for one in answer.rounds]


def ends(answer: Answer) -> list[str]:
    """How it ended."""
    reasons = [path.finish_reason for one in answer.rounds for path in one.paths]
    return reasons + [one.summary.finish_reason for one in answer.rounds]


def bytes_in_use(model: ParaThinker) -> int:
    """KV memory that is held while nobody asks for anything."""
    # vLLM tells of its memory with each step, and gives some of it back a step late.
    model.complete("x", ThinkingParams(paths=1, max_path_tokens=4, min_path_tokens=4))
    return model.load().kv.in_use


def holdings(model: ParaThinker) -> dict[str, int]:
    """What the connector says that it holds, and has moved so far."""
    (found,) = model._engine._meter.holdings.values()
    return found


def left_behind(model: ParaThinker) -> dict[str, int]:
    """Whatever is held, anywhere, while nobody asks for anything."""
    found = {"bytes": bytes_in_use(model)}
    moved = ("spills", "loads")
    found |= {name: count for name, count in holdings(model).items() if name not in moved}
    assert len(found) == 6
    return {name: count for name, count in found.items() if count}
