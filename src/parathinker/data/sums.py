"""Sums, in figures and in words: reasoning-gym's ``chain_sum`` and ``leg_counting``.

Problems and their scorers are reasoning-gym's; this module writes paths that work them out. Each
line takes one addend to the running total:

    361 + 607 = 968          State the final answer to … 361 - 220 + 607 - 879 =
    968 - 220 = 748
    748 - 879 = -131
    Answer: -131

and of legs, where 31 woodlice, 25 tigers and 51 humans are counted:

    31 * 14 = 434
    434 + 25 * 4 = 534
    534 + 51 * 2 = 636
    Answer: 636

What is added comes first, so that totals stay above zero for long: small models stumble over signs.
The thought id decides the *route*: with which addend a path begins, and which way it goes round. A
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

TASKS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "chain_sum": MappingProxyType(
            {"min_terms": 4, "max_terms": 6, "min_digits": 2, "max_digits": 3}
        ),
        "leg_counting": MappingProxyType({"min_animals": 4, "max_animals": 6, "max_instances": 15}),
    }
)
"""Options of reasoning-gym's that problems are drawn with, in training and in evaluation."""
HELD_OUT_SEED = 2**40
"""reasoning-gym draws problem ``i`` with ``seed + i``; training stays below ``seed + 2**31``."""

_ANSWER = re.compile(r"Answer:\s*(-?\d+)")
_TERM = re.compile(r"([-+]?)\s*(\d+)")


@dataclass(frozen=True)
class Addend:
    """``count`` things of ``each``, taken away if ``sign`` is -1."""

    sign: int
    count: int
    each: int | None = None
    """None where the addend is a plain number."""

    @property
    def value(self) -> int:
        """What it adds."""
        return self.sign * self.count * (1 if self.each is None else self.each)

    def __str__(self) -> str:
        product = "" if self.each is None else f" * {self.each}"
        return f"{'-' if self.sign < 0 else '+'} {self.count}{product}"


@dataclass(frozen=True)
class Problem:
    """A sum to work out; ``question`` is the text that the model sees."""

    question: str
    addends: tuple[Addend, ...]

    @property
    def answer(self) -> int:
        """The right answer."""
        return sum(addend.value for addend in self.addends)


def problem_of(entry: Mapping[str, Any]) -> Problem:
    """The addends of a reasoning-gym entry of one of ``TASKS``."""
    metadata = entry["metadata"]
    if metadata["source_dataset"] == "leg_counting":
        legs = _legs()
        counted = metadata["animals"].items()
        addends = [Addend(1, count, legs[animal]) for animal, count in counted]
    else:
        terms = _TERM.findall(metadata["expression"])
        addends = [Addend(-1 if sign == "-" else 1, int(digits)) for sign, digits in terms]
    return Problem(entry["question"], tuple(addends))


def parse_answer(text: str) -> str | None:
    """The answer that a path or a summary ends with."""
    found = _ANSWER.findall(text)
    return found[-1] if found else None


def work_out(problem: Problem, thought_id: int = 1) -> str:
    """A path along the route of a thought id, ending in ``Answer: <number>``."""
    first, *rest = along_route(problem.addends, thought_id)
    total = first.value
    # A plain number to begin with needs no line of its own.
    lines = [] if first.each is None else [f"{first} = {total}".removeprefix("+ ")]
    for addend in rest:
        lines.append(f"{total} {addend} = {total + addend.value}")
        total += addend.value
    return "\n".join([*lines, answer_line(total)])


def along_route(addends: Sequence[Addend], thought_id: int) -> list[Addend]:
    """First what is added, then what is taken away.

    Odd thought ids go forwards and even ones backwards, two from each addend in turn.
    """
    turn, backwards = divmod(thought_id - 1, 2)
    step = -1 if backwards else 1
    route: list[Addend] = []
    for sign in (1, -1):
        alike = [addend for addend in addends if addend.sign == sign]
        route += (alike[(turn + step * i) % len(alike)] for i in range(len(alike)))
    return route


def answer_line(answer: int) -> str:
    """The last line of a path, which is also the whole summary."""
    return f"Answer: {answer}"


class SumsSource:
    """Examples made from reasoning-gym's problems; item ``i`` is the same on every run.

    Paths are right, and each takes the route of its thought id, drawn at random. So a summary
    learns to copy an answer, not to choose one: for that it has to see a model's own paths.

    Args:
        seed: which problems and routes.
        tasks: reasoning-gym tasks of ``TASKS``, one drawn for each example; repeat some to weigh.
        summary: whether examples have summaries.
        max_paths: thought ids that the model has.

    Raises:
        UsageError: no such task.
    """

    def __init__(
        self,
        seed: int,
        tasks: Sequence[str] = tuple(TASKS),
        summary: bool = False,
        max_paths: int = 16,
    ) -> None:
        for task in tasks:
            if task not in TASKS:
                raise UsageError(f"sums: no task {task!r}; there are: {', '.join(TASKS)}")
        self._seed, self._tasks, self._summary = seed, tuple(tasks), summary
        self._thought_ids = range(1, max_paths + 1)
        self._problems = {task: _reasoning_gym(task, seed) for task in set(tasks)}

    def example(self, index: int, paths: int) -> Example:
        """Example ``index`` with so many paths, at most as many as there are thought ids."""
        if paths > len(self._thought_ids):
            raise UsageError(
                f"sums: {paths} paths, but thought ids for {len(self._thought_ids)} only"
            )
        rng = random.Random(f"{self._seed}/{index}")
        problem = problem_of(self._problems[rng.choice(self._tasks)][index % (2**31 - 1)])
        thought_ids = rng.sample(self._thought_ids, paths)
        written = tuple(PathText(work_out(problem, i), thought_id=i) for i in thought_ids)
        summary = answer_line(problem.answer) if self._summary else None
        return Example(problem.question, written, summary)


def held_out_problems(task: str, count: int, seed: int = HELD_OUT_SEED) -> list[dict[str, Any]]:
    """Entries of a task of ``TASKS`` that training never draws, each but once."""
    entries: dict[str, dict[str, Any]] = {}
    for entry in _reasoning_gym(task, seed):
        entries.setdefault(entry["question"], entry)
        if len(entries) == count:
            break
    return list(entries.values())


def _reasoning_gym(task: str, seed: int) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtraError(f"the {task} task", "eval") from error
    return reasoning_gym.create_dataset(task, seed=seed, size=2**31 - 1, **TASKS[task])


def _legs() -> Mapping[str, int]:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    legs: Mapping[str, int] = ANIMALS
    return legs
