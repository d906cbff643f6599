"""Long multiplication: reasoning-gym's ``products``, and a teacher that works them out.

Problems and their scorer are reasoning-gym's. The teacher writes schoolbook multiplication, digits
with the ones first so that carries run the way the text does, every number zero-padded to one
width: the same step stands at the same place in every path. For ``37 * 58`` with two digits::

    73*85            both factors, ones first
    73*8=692>692     37 * 8 = 296; running total 296
    73*5=581>412     37 * 5 = 185; 185 + 29 (the total without its ones) = 214
    Answer:  2146    the last total, then the ones that were dropped: read normally

The summary is the answer's line alone. It cannot be worked out in one go, only read off the paths;
and since every path says it at the same place, paths that are wrong in different digits can still
be right together.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from parathinker.data.schema import Example, PathText
from parathinker.errors import MissingExtraError, UsageError

DIGITS = 5
"""Width of the factors in a trace; shorter ones are zero-padded."""
HELD_OUT_SEED = 20_000_000
"""Far from any that training draws with."""
HELD_OUT_SHARE = 50
"""One problem in so many is kept for evaluation, by the hash of its factors."""

_PRODUCT = re.compile(r"(?<![\d.])\d+(?:\s*[*x×]\s*\d+)+(?!\d|\.\d)")
_ANSWER = re.compile(r"Answer:\s*(\d+)")
_PHRASES = (
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


def work_out(problem: Problem, slip_rate: float = 0.0, rng: random.Random | None = None) -> str:
    """The teacher's trace, ending in ``Answer: <number>``.

    Args:
        problem: factors of at most ``DIGITS`` digits.
        slip_rate: probability that a number gets one wrong digit; the slip is carried forward.
        rng: where slips come from; needed with a slip rate.
    """

    def note(value: int, width: int) -> int:
        if slip_rate and rng is not None and rng.random() < slip_rate:
            digits = list(str(value).zfill(width))
            place = rng.randrange(width)
            # Off by one as often as not: that is how carries go wrong.
            digits[place] = str((int(digits[place]) + rng.choice((1, 9, rng.randint(1, 9)))) % 10)
            return int("".join(digits))
        return value

    def ones_first(value: int, width: int) -> str:
        return str(value).zfill(width)[::-1]

    a = ones_first(problem.a, DIGITS)
    lines = [f"{a}*{ones_first(problem.b, DIGITS)}"]
    total, dropped = 0, ""
    for digit in ones_first(problem.b, DIGITS):
        partial = note(problem.a * int(digit), DIGITS + 1)
        total = note((partial + total // 10) % 10 ** (DIGITS + 1), DIGITS + 1)
        dropped = str(total % 10) + dropped
        lines.append(
            f"{a}*{digit}={ones_first(partial, DIGITS + 1)}>{ones_first(total, DIGITS + 1)}"
        )
    answer = int(str(total)[:-1] + dropped if total >= 10 else dropped)
    lines.append(f"Answer:{answer:>{2 * DIGITS + 1}}")
    return "\n".join(lines)


class ProductsSource:
    """Examples made from reasoning-gym's problems; item ``i`` is the same on every run.

    Args:
        seed: which problems and slips.
        digits: how many digits the factors have, one drawn for each example; repeat some to weigh.
        slip_rates: slip rates of the teacher, one drawn for each example.
        summary: whether examples have a summary.
        rephrase: share of problems asked in other words, with a shorter second factor at times.
    """

    def __init__(
        self,
        seed: int,
        digits: Sequence[int] = (DIGITS,),
        slip_rates: Sequence[float] = (0.0,),
        summary: bool = True,
        rephrase: float = 0.3,
    ) -> None:
        if not all(1 <= d <= DIGITS for d in digits):
            raise UsageError(f"products: digits should lie between 1 and {DIGITS}, got {digits}")
        self._seed, self._digits, self._slip_rates = seed, tuple(digits), tuple(slip_rates)
        self._summary, self._rephrase = summary, rephrase
        self._problems = {d: _reasoning_gym(d, seed) for d in set(digits)}

    def example(self, index: int, paths: int) -> Example:
        """Example ``index`` with so many paths."""
        rng = random.Random(f"{self._seed}/{index}")
        problem = self._draw(index, rng)
        truth = work_out(problem)
        rate = rng.choice(self._slip_rates)
        texts = [work_out(problem, rate, rng) for _ in range(paths)]
        return Example(
            problem.question,
            tuple(PathText(text, learn=text == truth) for text in texts),
            truth.splitlines()[-1] if self._summary else None,
        )

    def _draw(self, index: int, rng: random.Random) -> Problem:
        problems = self._problems[rng.choice(self._digits)]
        for attempt in range(1000):
            problem = problem_of(problems[(index * 1009 + attempt) % (2**31 - 1)])
            if rng.random() < self._rephrase:
                b = problem.b // 10 ** rng.randrange(len(str(problem.b)))
                question = rng.choice(_PHRASES).format(a=problem.a, b=b)
                problem = Problem(question, problem.a, b)
            if not is_held_out(problem.a, problem.b):
                return problem
        raise UsageError("products: every problem drawn is held out")


def held_out_problems(
    count: int, digits: int = DIGITS, seed: int = HELD_OUT_SEED
) -> list[dict[str, Any]]:
    """Entries of reasoning-gym's ``products`` that training never sees, each but once.

    Raises:
        UsageError: numbers so short that there are not as many held-out problems.
    """
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    draws = 20 * HELD_OUT_SHARE * max(count, 100)
    for entry in islice(_reasoning_gym(digits, seed), draws):
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
    return float(_reasoning_gym(DIGITS, 0).score_answer(answer, entry))


def problem_of(entry: dict[str, Any]) -> Problem:
    """The factors of a reasoning-gym entry."""
    a, b = entry["metadata"]["expression"].split(" * ")
    return Problem(entry["question"], int(a), int(b))


def _reasoning_gym(digits: int, seed: int) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtraError("the products task", "eval") from error
    return reasoning_gym.create_dataset(
        "products", min_digits=digits, max_digits=digits, seed=seed, size=2**31 - 1
    )


def tokenizer_corpus() -> list[str]:
    """Texts that show a tokenizer the task's words, without telling it any number."""
    entry = _reasoning_gym(1, 0)[0]["question"]
    words = re.sub(r"\d", "", entry)
    return [words, *(p.format(a="", b="") for p in _PHRASES), "Answer:"] * 10
