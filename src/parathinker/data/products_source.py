"""Examples of the products task: whole paths, and practice at what these teach late.

``products.py`` has the task, ``multiplication.py`` the teachers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from parathinker.data.multiplication import Slip, no_slip, slips
from parathinker.data.products import (
    DIGITS,
    PHRASES,
    TEACHERS,
    Problem,
    endless,
    is_held_out,
    problem_of,
    summed_up,
    work_out,
)
from parathinker.data.schema import Example, PathText
from parathinker.errors import UsageError

ENDINGS_STRAYED = 0.5
"""Endings whose last total is any number: most of its digits are those of the one before it, and
answers were read off that."""


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
            read before whole paths are right. As many paths as the largest of ``readings``.
        practice_slips: slip rates of the answers there, one drawn for each path.
        endings: share of examples in whose place is the end of a path alone, from any line on, of
            which what is said of the last total is learnt. An answer goes back through all of its
            digits; from whole paths, where it is one token in twenty, that is learnt late.

    Raises:
        UsageError: no such teacher, more digits than its layout has, practice or endings that are
            no share, practice without readings or rates of slips, or a teacher without endings.
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
        if practice and not practice_slips:
            raise UsageError("products: practice_slips should say how often answers slip there")
        any_path = self._teacher.trace(0, 0, no_slip, 1)
        if endings and self._teacher.said_from(any_path) is None:
            raise UsageError(f"products: endings go by the last total, which {teacher} cuts")
        self._thought_ids = range(1, min(self._teacher.routes, max_paths) + 1)
        self._problems = {d: endless(d, seed) for d in set(digits)}

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
        """An example of last lines alone, whose answers slip as often as factors have digits."""
        digits, written = self._teacher.digits, []
        for _ in range(max(self._readings)):
            slip, answer = slips(rng.choice(self._practice_slips), rng), problem.answer
            for _ in range(digits):
                answer = slip(answer) % 10 ** (2 * digits)
            first, second = rng.sample((problem.a, problem.b), 2)
            lines = self._teacher.last_lines(first, second, answer)
            written.append(PathText("\n".join(lines), learn=False))
        return summed_up(problem, written, self._readings, rng, self._teacher)

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
            digits = self._teacher.digits
            slip = _noting(rng.randrange(10 ** (2 * digits)), digits)
        path = self._teacher.trace(problem.a, problem.b, slip, thought_id or 1)
        said_from = self._teacher.said_from(path)
        assert said_from is not None
        text = "\n".join(path.split("\n")[rng.randrange(self._teacher.digits + 1) :])
        return PathText(text, thought_id=thought_id, given=said_from - len(path) + len(text))

    def _draw(self, index: int, rng: random.Random) -> Problem:
        problems = self._problems[rng.choice(self._digits)]
        for attempt in range(1000):
            problem = problem_of(problems[(index * 1009 + attempt) % (2**31 - 1)])
            if rng.random() < self._rephrase:
                problem = _rephrased(problem, rng)
            if not is_held_out(problem.a, problem.b):
                return problem
        raise UsageError("products: every problem drawn is held out")


def _noting(number: int, digits: int) -> Slip:
    """At the last of so many totals note this number."""
    turns = iter(range(digits))

    def slip(value: int) -> int:
        return number if next(turns) == digits - 1 else value

    return slip


def _rephrased(problem: Problem, rng: random.Random) -> Problem:
    factors = [problem.a, problem.b]
    if rng.random() < 0.5:
        short = rng.randrange(2)
        factors[short] //= 10 ** rng.randrange(len(str(factors[short])))
    question = rng.choice(PHRASES).format(a=factors[0], b=factors[1])
    return Problem(question, *factors)
