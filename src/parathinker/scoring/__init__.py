r"""Scoring answers: reasoning-gym's own scorers for its tasks, math-verify for all else.

Both compute with what a model wrote, and may take forever or all memory. So they run in worker
processes with a limit of time and memory, see :mod:`parathinker.scoring.pool`::

    score(Question("…", "What is 1/2 + 1/4?", answer="3/4"), r"It is \boxed{\frac{3}{4}}.")  # 1.0
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib import metadata

from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.scoring.extract import extract_answer
from parathinker.scoring.pool import Scored, ScoringPool

__all__ = ["Scored", "ScoringPool", "extract_answer", "score", "score_all", "scorer_version"]

_RULES_VERSION = 2
"""Goes up whenever an answer may score otherwise than before."""

_shared: ScoringPool | None = None
_shared_lock = threading.Lock()


def score(question: Question, answer_text: str, timeout_s: float = 5.0) -> float:
    """How right an answer is, 0 to 1; 0 if that cannot be found out within the time limit.

    Args:
        question: with a reference answer, or with the task and entry of reasoning-gym in its
            metadata, as ``{"task": "chain_sum", "entry": {…}}``.
        answer_text: the whole answer; :func:`extract_answer` says what of it counts.
        timeout_s: processor time, in seconds.

    Raises:
        UsageError: the question has neither.
        MissingExtraError: math-verify or reasoning-gym is not installed.
    """
    scored = _shared_pool().check(question, answer_text, timeout_s).score
    if scored is None:
        raise UsageError(f"question {question.id} has no reference answer to score against")
    return scored


def score_all(
    answers: Iterable[tuple[Question, str]], workers: int | None = None, timeout_s: float = 5.0
) -> list[float | None]:
    """:func:`score` of many answers, in their order; None for questions without a reference.

    Args:
        answers: pairs of a question and an answer's text.
        workers: processes to work in; by default one for each processor.
        timeout_s: processor time for one answer, in seconds.
    """
    with ScoringPool(workers, timeout_s) as pool:
        numbered = ((i, question, text) for i, (question, text) in enumerate(answers))
        scores = {i: scored.score for i, scored in pool.check_all(numbered)}
    return [scores[i] for i in range(len(scores))]


def scorer_version() -> str:
    """Names the rules and libraries that scores come from; scores of another may differ."""
    names = (f"rules {_RULES_VERSION}", *map(_installed, ("math-verify", "reasoning-gym", "sympy")))
    return ", ".join(names)


def _installed(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"{name} none"


def _shared_pool() -> ScoringPool:
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ScoringPool()
        return _shared
