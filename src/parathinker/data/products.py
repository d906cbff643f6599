"""Multiplication: reasoning-gym's ``products``, with paths of a teacher that slips.

Problems and their scorer are reasoning-gym's; :mod:`parathinker.data.multiplication` writes paths.
The summary is the answer's line alone. It cannot be worked out in one go, only read off the paths;
and since every path says it at the same place, paths that are wrong in different digits can still
be right together.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from parathinker.data.multiplication import (
    CastingOutNines,
    CastingOutSevens,
    InTheHead,
    InWriting,
    Teacher,
    no_slip,
    slips,
)
from parathinker.data.parts import hold_in_parts
from parathinker.data.schema import Example, PathText
from parathinker.errors import MissingExtraError, UsageError

HEAD, NINES, SEVENS, WRITING = InTheHead(), CastingOutNines(), CastingOutSevens(), InWriting()
TEACHERS: Mapping[str, Teacher] = MappingProxyType(
    {"head": HEAD, "nines": NINES, "sevens": SEVENS, "writing": WRITING}
)
DIGITS = HEAD.digits
"""Of the problems that a model trained by ``HEAD`` is measured on, the embedded one among them."""
HELD_OUT_SEED = 20_000_000
"""Far from any that training draws with."""
HELD_OUT_SHARE = 50
"""One problem in so many is kept for evaluation, by the hash of its factors."""

_PRODUCT = re.compile(r"(?<![\d.])\d+(?:\s*[*x×]\s*\d+)+(?!\d|\.\d)")
_ANSWER = re.compile(r"Answer:\s*(\d+)")
PHRASES = (
    "Solve the following multiplication: {a} * {b}. Give only the result as your final answer.",
    "What is {a} * {b}?",
    "{a} * {b}",
    "Calculate {a} * {b}.",
    "How much is {a} x {b}?",
)


@dataclass(frozen=True)
class Problem:
    """A product to work out; ``question`` is the text that the model sees."""

    question: str
    a: int
    b: int

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.a * self.b


def parse_question(question: str) -> Problem | None:
    """The problem in a question of this task, None where it is not one."""
    found = _PRODUCT.findall(question)
    factors = re.findall(r"\d+", found[0]) if len(found) == 1 else []
    return Problem(question, int(factors[0]), int(factors[1])) if len(factors) == 2 else None


def parse_answer(text: str) -> str | None:
    """The answer that a path or a summary ends with, as digits."""
    found = _ANSWER.findall(text)
    return found[-1] if found else None


def check(question: str, text: str) -> bool | None:
    """Whether ``text`` answers ``question`` rightly; None if the question is not of this task."""
    problem = parse_question(question)
    if problem is None:
        return None
    answer = parse_answer(text)
    return answer is not None and int(answer) == problem.answer


def is_held_out(a: int, b: int) -> bool:
    """Whether a problem is kept from training, whichever way round its factors stand."""
    key = f"{min(a, b)}*{max(a, b)}".encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def work_out(
    problem: Problem,
    thought_id: int = 1,
    slip_rate: float = 0.0,
    rng: random.Random | None = None,
    teacher: Teacher = HEAD,
) -> str:
    """A path of a teacher, ending in ``Answer: <number>``.

    Args:
        problem: factors of at most the teacher's number of digits.
        thought_id: of the path; it says which route the teacher takes, if it has several.
        slip_rate: probability that a number gets one wrong digit; the slip is carried forward.
        rng: where slips come from; needed with a slip rate.
    """
    slip = slips(slip_rate, rng) if slip_rate and rng is not None else no_slip
    return teacher.trace(problem.a, problem.b, slip, thought_id)


def summed_up(
    problem: Problem,
    paths: Sequence[PathText],
    readings: Sequence[int],
    rng: random.Random,
    teacher: Teacher = HEAD,
    first: Sequence[int] = (),
) -> Example:
    """An example whose summaries each read so many of the paths, drawn at random.

    ``first`` adds summaries that each read so many of the first paths. A summary is there only if
    the paths that it reads hold all digits of the answer, each at its place in some path: no
    reading teaches a digit that stands nowhere.
    """
    answer = teacher.answer_line(problem.answer)
    lines = [_last_line(path.text) for path in paths]
    drawn = [tuple(rng.sample(range(len(paths)), min(size, len(paths)))) for size in readings]
    drawn += [tuple(range(min(size, len(paths)))) for size in first]
    held = tuple(one for one in drawn if hold_in_parts(answer, [lines[i] for i in one]))
    return Example(problem.question, tuple(paths), answer if held else None, readings=held)


def _last_line(text: str) -> str:
    return text.rsplit("\n", 1)[-1]


def held_out_problems(
    count: int, digits: int = DIGITS, seed: int = HELD_OUT_SEED
) -> list[dict[str, Any]]:
    """Entries of reasoning-gym's ``products`` that training never sees, each but once.

    Raises:
        UsageError: numbers so short that there are not as many held-out problems.
    """
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    draws = 20 * HELD_OUT_SHARE * max(count, 100)
    for entry in islice(endless(digits, seed), draws):
        problem = problem_of(entry)
        if is_held_out(problem.a, problem.b):
            entries.setdefault((problem.a, problem.b), entry)
        if len(entries) == count:
            return list(entries.values())
    raise UsageError(
        f"products of {digits}-digit numbers: only {len(entries)} held-out problems found, "
        f"{count} wanted; ask for fewer, or for more digits"
    )


def score(answer: str | None, entry: dict[str, Any]) -> float:
    """reasoning-gym's own score of an answer to one of its entries, 0 to 1."""
    return float(endless(DIGITS, 0).score_answer(answer, entry))


def problem_of(entry: dict[str, Any]) -> Problem:
    """The factors of a reasoning-gym entry."""
    a, b = entry["metadata"]["expression"].split(" * ")
    return Problem(entry["question"], int(a), int(b))


def endless(digits: int, seed: int) -> Any:
    """reasoning-gym's dataset of products of so many digits."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtraError("the products task", "eval") from error
    return reasoning_gym.create_dataset(
        "products", min_digits=digits, max_digits=digits, seed=seed, size=2**31 - 1
    )


def tokenizer_corpus() -> list[str]:
    """Texts that show a tokenizer the task's words, without telling it any number."""
    entry = endless(1, 0)[0]["question"]
    words = re.sub(r"\d", "", entry)
    return [words, *(p.format(a="", b="") for p in PHRASES), "Answer:"] * 10
