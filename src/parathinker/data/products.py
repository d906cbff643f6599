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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from parathinker.data.multiplication import (
    CastingOutNines,
    InTheHead,
    InWriting,
    Slip,
    Teacher,
    no_slip,
    slips,
)
from parathinker.data.parts import hold_in_parts
from parathinker.data.schema import Example, PathText
from parathinker.errors import MissingExtraError, UsageError

HEAD, NINES, WRITING = InTheHead(), CastingOutNines(), InWriting()
TEACHERS: Mapping[str, Teacher] = MappingProxyType(
    {"head": HEAD, "nines": NINES, "writing": WRITING}
)
DIGITS = HEAD.digits
"""Of the problems that a model trained by ``HEAD`` is measured on, the embedded one among them."""
HELD_OUT_SEED = 20_000_000
"""Far from any that training draws with."""
HELD_OUT_SHARE = 50
"""One problem in so many is kept for evaluation, by the hash of its factors."""

PRACTICE_WRONG = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Shares of wrong answers among last lines to practise reading by, one drawn for each example: what
is hard for one path is for the others, too."""
PRACTICE_SHARED = 0.3
"""Of the wrong ones, those that several may agree on."""
PRACTICE_MISJUDGED = 0.1
"""Checks among them that come out wrong. This and the share above are about what models of this
task do (``scripts/own_paths.py`` writes their paths down)."""

ENDINGS_STRAYED = 0.5
"""Endings whose last total is any number: most of its digits are those of the one before it, and
answers were read off that."""

_PRODUCT = re.compile(r"(?<![\d.])\d+(?:\s*[*x×]\s*\d+)+(?!\d|\.\d)")
_ANSWER = re.compile(r"Answer:\s*(\d+)")
_PHRASES = (
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


class ProductsSource:
    """Examples made from reasoning-gym's problems; item ``i`` is the same on every run.

    Where the teacher has routes, each path takes that of its thought id, drawn at random.

    Args:
        seed: which problems, routes and slips.
        digits: how many digits the factors have, one drawn for each example; repeat some to weigh.
        slip_rates: slip rates of the teacher, one drawn for each path.
        summary: whether examples have summaries (see :func:`summed_up`).
        readings: how many of an example's paths each of its summaries reads, drawn at random; empty
            for one summary of all paths.
        rephrase: share of problems asked in other words, half of them with one factor shorter.
        learn_paths: whether the loss covers flawless paths, and of the others the check, if the
            teacher has one; without it they are there to be read.
        teacher: one of ``TEACHERS``.
        max_paths: thought ids that the model has.
        retry: whether an example ends with the first path that trusts itself, for chains that go on
            until one does; ``paths`` is then the most that it has.
        practice: share of examples in whose place is one that practises reading: the last lines of
            paths alone, right and wrong. Summaries find little else to look at there, and learn to
            read before whole paths are right.
        practice_slips: slip rates of the answers there, one drawn for each line, as many lines as
            the largest of ``readings``: to learn where to look. Empty for answers that are wrong
            as models' own are, one line for each thought id: to learn whom to believe.
        endings: share of examples in whose place is the end of a path alone, from its last total
            on. An answer is said by going back through all of a total's digits, which is learnt
            late and suddenly from whole paths, where it is one token in twenty.

    Raises:
        UsageError: no such teacher, more digits than its layout has, practice or endings that are
            no share, practice without readings, or a teacher without endings.
    """

    def __init__(
        self,
        seed: int,
        digits: Sequence[int] = (DIGITS,),
        slip_rates: Sequence[float] = (0.0,),
        summary: bool = True,
        readings: Sequence[int] = (),
        rephrase: float = 0.3,
        learn_paths: bool = True,
        teacher: str = "head",
        max_paths: int = 16,
        retry: bool = False,
        practice: float = 0.0,
        practice_slips: Sequence[float] = (),
        endings: float = 0.0,
    ) -> None:
        if teacher not in TEACHERS:
            raise UsageError(f"products: no teacher {teacher!r}; there are: {', '.join(TEACHERS)}")
        self._teacher = TEACHERS[teacher]
        most = self._teacher.digits
        if not all(1 <= d <= most for d in digits):
            raise UsageError(f"products: digits should lie between 1 and {most}, got {digits}")
        self._seed, self._digits, self._slip_rates = seed, tuple(digits), tuple(slip_rates)
        self._summary, self._readings, self._rephrase = summary, tuple(readings), rephrase
        self._learn_paths, self._retry = learn_paths, retry
        self._practice, self._practice_slips = practice, tuple(practice_slips)
        self._endings = endings
        for name, share in (("practice", practice), ("endings", endings)):
            if not 0 <= share <= 1:
                raise UsageError(f"products: {name} is a share from 0 to 1, got {share}")
        if practice and not (summary and readings):
            raise UsageError("products: practice is for summaries; say how many paths they read")
        any_path = self._teacher.trace(0, 0, no_slip, 1)
        if endings and self._teacher.said_from(any_path) is None:
            raise UsageError(f"products: endings go by the last total, which {teacher} cuts")
        self._thought_ids = range(1, min(self._teacher.routes, max_paths) + 1)
        self._problems = {d: _reasoning_gym(d, seed) for d in set(digits)}

    def example(self, index: int, paths: int) -> Example:
        """Example ``index`` with so many paths, at most as many as have routes."""
        rng = random.Random(f"{self._seed}/{index}")
        problem = self._draw(index, rng)
        if self._practice and rng.random() < self._practice:
            return self._practise(problem, rng)
        if self._endings and rng.random() < self._endings:
            return Example(problem.question, (self._ending(problem, rng),))
        routes = self._thought_ids
        if routes and paths > len(routes):
            raise UsageError(f"products: {paths} paths, but routes for {len(routes)} only")
        thought_ids = rng.sample(routes, paths) if routes else [None] * paths
        written = tuple(self._path(problem, thought_id, rng) for thought_id in thought_ids)
        if self._retry:
            trusted = (i for i, path in enumerate(written, 1) if self._teacher.trusts(path.text))
            written = written[: next(trusted, paths)]
        if not self._summary:
            return Example(problem.question, written)
        sizes = [size for size in self._readings if size <= paths] or [paths]
        return summed_up(problem, written, sizes, rng, self._teacher)

    def _practise(self, problem: Problem, rng: random.Random) -> Example:
        """An example of last lines alone."""
        slipping, written = bool(self._practice_slips), []
        for answer in self._slipping(problem, rng) if slipping else self._erring(problem, rng):
            first, second = rng.sample((problem.a, problem.b), 2)
            misjudged = not slipping and rng.random() < PRACTICE_MISJUDGED
            lines = self._teacher.last_lines(first, second, answer, misjudged)
            written.append(PathText("\n".join(lines), learn=False))
        return summed_up(problem, written, self._readings, rng, self._teacher)

    def _slipping(self, problem: Problem, rng: random.Random) -> Iterator[int]:
        """Answers that slip as often as factors have digits."""
        for _ in range(max(self._readings)):
            slip, answer = slips(rng.choice(self._practice_slips), rng), problem.answer
            for _ in range(self._teacher.digits):
                answer = slip(answer) % 10 ** (2 * self._teacher.digits)
            yield answer

    def _erring(self, problem: Problem, rng: random.Random) -> Iterator[int]:
        """Answers as models of this task find them."""
        mistaken, right = self._teacher.mistaken, problem.answer
        wrong_share = rng.choice(PRACTICE_WRONG)
        common = [mistaken(right, rng) for _ in range(2)]
        for _ in range(max(len(self._thought_ids), *self._readings)):
            answer = right
            if rng.random() < wrong_share:
                shared = rng.random() < PRACTICE_SHARED
                answer = rng.choice(common) if shared else mistaken(right, rng)
            yield answer

    def _path(self, problem: Problem, thought_id: int | None, rng: random.Random) -> PathText:
        rate = rng.choice(self._slip_rates)
        text = work_out(problem, thought_id or 1, rate, rng, self._teacher)
        if text == work_out(problem, thought_id or 1, teacher=self._teacher):
            return PathText(text, learn=self._learn_paths, thought_id=thought_id)
        finished = self._teacher.finished(problem.a, problem.b, text, thought_id or 1)
        learn = self._learn_paths and finished is not None
        given = finished[1] if finished else 0
        return PathText(text, learn=learn, thought_id=thought_id, given=given)

    def _ending(self, problem: Problem, rng: random.Random) -> PathText:
        """The last lines of a path, from any of them on up to its last total."""
        thought_id = rng.choice(self._thought_ids) if self._thought_ids else None
        slip = slips(rng.choice(self._slip_rates), rng)
        if rng.random() < ENDINGS_STRAYED:
            slip = _straying(self._teacher.digits, rng)
        path = self._teacher.trace(problem.a, problem.b, slip, thought_id or 1)
        said_from = self._teacher.said_from(path)
        assert said_from is not None
        total = path.rindex(">", 0, said_from - 1)
        starts = [0, *(i + 1 for i, one in enumerate(path[:total]) if one == "\n")]
        start = rng.choice(starts)
        return PathText(path[start:], thought_id=thought_id, given=said_from - start)

    def _draw(self, index: int, rng: random.Random) -> Problem:
        problems = self._problems[rng.choice(self._digits)]
        for attempt in range(1000):
            problem = problem_of(problems[(index * 1009 + attempt) % (2**31 - 1)])
            if rng.random() < self._rephrase:
                problem = _rephrased(problem, rng)
            if not is_held_out(problem.a, problem.b):
                return problem
        raise UsageError("products: every problem drawn is held out")


def _straying(digits: int, rng: random.Random) -> Slip:
    """At the last of so many totals note any number."""
    turns = iter(range(digits))

    def slip(value: int) -> int:
        return rng.randrange(10 ** (2 * digits)) if next(turns) == digits - 1 else value

    return slip


def _rephrased(problem: Problem, rng: random.Random) -> Problem:
    factors = [problem.a, problem.b]
    if rng.random() < 0.5:
        short = rng.randrange(2)
        factors[short] //= 10 ** rng.randrange(len(str(factors[short])))
    question = rng.choice(_PHRASES).format(a=factors[0], b=factors[1])
    return Problem(question, *factors)


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
