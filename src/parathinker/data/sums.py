"""Sums: reasoning-gym's ``basic_arithmetic`` with additions alone, asked in words.

Problems and their scorer are reasoning-gym's; this module writes paths that work them out, each a
chain of running totals. Of "Evaluate: 261 + 120 + 507." one path is

    507 + 261 = 768 + 120 = 888
    Answer: 888

The thought id decides the *route*: with which term a path begins, and which way it goes round. A
path repeats its own mistakes; paths on other routes pass through other totals, and make others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from parathinker.data.schema import Example, PathText
from parathinker.errors import MissingExtraError, UsageError

TASK = "basic_arithmetic"
TERMS = (4, 8)
"""Terms of a problem in training, from and to."""
MEASURED_TERMS = 8
"""Terms of the problems that models are measured on, if nothing else is said."""
STARTS = 8
"""Thought ids up to this one go forwards, each from another term; as many more go backwards."""
HELD_OUT_SEED = 2**40
"""reasoning-gym draws problem ``i`` with ``seed + i``; training stays below ``seed + 2**31``."""
_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "min_digits": 3,
        "max_digits": 3,
        "operators": ("+",),
        "allow_parentheses": False,
        "allow_negation": False,
        "format_style": "natural",
    }
)
_SUM = re.compile(r"(?<![\d.])\d+(?:\s*\+\s*\d+)+(?!\d|\.\d)")
_OTHER = re.compile(r"[-*/×]\s*\d")
_ANSWER = re.compile(r"Answer:\s*(\d+)")


@dataclass(frozen=True)
class Problem:
    """A sum to work out; ``question`` is the text that the model sees."""

    question: str
    terms: tuple[int, ...]

    @property
    def answer(self) -> int:
        """The right answer."""
        return sum(self.terms)


def problem_of(entry: Mapping[str, Any]) -> Problem:
    """The terms of a reasoning-gym entry."""
    terms = entry["metadata"]["expression"].split(" + ")
    return Problem(entry["question"], tuple(map(int, terms)))


def parse_question(question: str) -> Problem | None:
    """The sum in a question, None where it is not one."""
    found = _SUM.findall(question)
    if len(found) != 1 or _OTHER.search(question):
        return None
    return Problem(question, tuple(map(int, re.findall(r"\d+", found[0]))))


def parse_answer(text: str) -> str | None:
    """The answer that a path or a summary ends with."""
    found = _ANSWER.findall(text)
    return found[-1] if found else None


def check(question: str, text: str) -> bool | None:
    """Whether ``text`` answers ``question`` rightly; None if the question is not of this task."""
    problem = parse_question(question)
    if problem is None:
        return None
    answer = parse_answer(text)
    return answer is not None and int(answer) == problem.answer


def work_out(problem: Problem, thought_id: int = 1) -> str:
    """A path along the route of a thought id, ending in ``Answer: <number>``."""
    total, *rest = along_route(problem.terms, thought_id)
    text = str(total)
    for term in rest:
        total += term
        text += f" + {term} = {total}"
    return f"{text}\n{answer_line(total)}"


def along_route(terms: Sequence[int], thought_id: int) -> list[int]:
    """All terms once, in the order of a thought id.

    It begins so many terms from the end of the question, for the end is where a path begins to
    read: a term there is always equally far away.
    """
    backwards, turn = divmod(thought_id - 1, STARTS)
    step = -1 if backwards else 1
    return [terms[(step * i - 1 - turn) % len(terms)] for i in range(len(terms))]


def answer_line(answer: int) -> str:
    """The last line of a path, which is also the whole summary."""
    return f"Answer: {answer}"


class SumsSource:
    """Examples made from reasoning-gym's problems; item ``i`` is the same on every run.

    Paths are right, and each takes the route of its thought id, drawn at random. So a summary
    learns to copy an answer, not to choose one: for that it has to see a model's own paths.

    Args:
        seed: which problems and routes.
        summary: whether examples have summaries.
        terms: of a problem, from and to.
        max_paths: thought ids that the model has.
    """

    def __init__(
        self,
        seed: int,
        summary: bool = False,
        terms: Sequence[int] = TERMS,
        max_paths: int = 2 * STARTS,
    ) -> None:
        self._seed, self._summary = seed, summary
        self._thought_ids = range(1, max_paths + 1)
        low, high = terms
        self._problems = _reasoning_gym(seed, low, high)

    def example(self, index: int, paths: int) -> Example:
        """Example ``index`` with so many paths, at most as many as there are thought ids."""
        if paths > len(self._thought_ids):
            raise UsageError(
                f"sums: {paths} paths, but thought ids for {len(self._thought_ids)} only"
            )
        rng = random.Random(f"{self._seed}/{index}")
        problem = problem_of(self._problems[index % (2**31 - 1)])
        thought_ids = rng.sample(self._thought_ids, paths)
        written = tuple(PathText(work_out(problem, i), thought_id=i) for i in thought_ids)
        summary = answer_line(problem.answer) if self._summary else None
        return Example(problem.question, written, summary)


def held_out_problems(
    count: int, terms: int = MEASURED_TERMS, seed: int = HELD_OUT_SEED
) -> list[dict[str, Any]]:
    """Entries of reasoning-gym's task that training never draws, each but once."""
    entries: dict[str, dict[str, Any]] = {}
    for entry in _reasoning_gym(seed, terms, terms):
        entries.setdefault(entry["question"], entry)
        if len(entries) == count:
            break
    return list(entries.values())


def _reasoning_gym(seed: int, low: int, high: int) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtraError("sums", "eval") from error
    return reasoning_gym.create_dataset(
        TASK, seed=seed, size=2**31 - 1, min_terms=low, max_terms=high, **_OPTIONS
    )
