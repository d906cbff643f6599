"""What routes through complements could add: the same errors, less shared.

All routes of the products task multiply the same digits, so that paths err together. Here a model
also works out a * (10^6 - b), (10^6 - a) * b and the product of both complements, each along routes
of its own, and what it finds is turned into a * b without any error. That is an upper bound: a
model that did so itself would err there, too. Consensus takes, for each digit of the answer, what
most paths have there.

    python benchmarks/complements.py tiny
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence

from parathinker import ParaThinker, ThinkingParams
from parathinker.data import products
from parathinker.data.products import DIGITS, Problem

BASE, MODULUS = 10**DIGITS, 10 ** (2 * DIGITS)
WAYS = 4
"""a * b, and with the complement of a, of b, of both."""


def main() -> None:
    """Sample, mix and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name or folder of a model of the products task")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.5)
    args = parser.parse_args()
    model = ParaThinker.from_pretrained(args.model)
    # Behind those that the results are measured on.
    entries = products.held_out_problems(500 + args.problems)[500:]
    problems = [products.problem_of(entry) for entry in entries]
    found = [
        [translated(problem, way, answers) for problem, answers in zip(problems, some, strict=True)]
        for way in range(WAYS)
        for some in [sample(model, [put(problem, way) for problem in problems], args)]
    ]
    for paths in (8, 16):
        for ways in (1, WAYS):
            each = paths // ways
            # Of each way other routes: the first few, then the next few.
            mixed = [
                [one for way in range(ways) for one in found[way][i][each * way : each * (way + 1)]]
                for i in range(len(problems))
            ]
            report(f"{paths:>2} paths, {ways} way{'s' if ways > 1 else ' '}", problems, mixed)


def put(problem: Problem, way: int) -> Problem:
    """The problem that is worked out in its place, asked in the same words."""
    a = BASE - problem.a if way & 1 else problem.a
    b = BASE - problem.b if way & 2 else problem.b
    asked = problem.question.replace(f"{problem.a} * {problem.b}", f"{a} * {b}")
    return Problem(asked, a, b)


def translated(problem: Problem, way: int, answers: Sequence[int]) -> list[int]:
    """What answers to ``put`` say of the problem itself."""
    a, b = problem.a, problem.b
    sign = -1 if way in (1, 2) else 1
    rest = (0, BASE * b, BASE * a, BASE * (a + b) - BASE**2)[way]
    return [(rest + sign * answer) % MODULUS for answer in answers]


def sample(
    model: ParaThinker, problems: Sequence[Problem], args: argparse.Namespace
) -> list[list[int]]:
    """The answers of all 16 paths to each; a path without any counts as 0."""
    params = ThinkingParams(
        paths=16,
        temperature=args.temperature,
        termination="last-finish",
        max_summary_tokens=1,
        seed=5,
    )
    answers = model.think([problem.question for problem in problems], params)
    return [
        [int(products.parse_answer(path.text) or 0) for path in answer.paths] for answer in answers
    ]


def report(name: str, problems: Sequence[Problem], found: Sequence[Sequence[int]]) -> None:
    """Shares of problems in percent: one path, any, a vote, and consensus digit by digit."""
    pairs = list(zip(problems, found, strict=True))
    one = statistics.fmean(answer == p.answer for p, answers in pairs for answer in answers)
    any_right = statistics.fmean(p.answer in answers for p, answers in pairs)
    vote = statistics.fmean(majority(p.answer, answers) for p, answers in pairs)
    agreed = statistics.fmean(consensus(answers) == p.answer for p, answers in pairs)
    print(
        f"{name}: one path {100 * one:.1f}, any {100 * any_right:.1f}, majority {100 * vote:.1f}, "
        f"consensus {100 * agreed:.1f}",
        flush=True,
    )


def majority(right: int, answers: Sequence[int]) -> float:
    """The share of the right answer among the most frequent."""
    counts = Counter(answers)
    most = [answer for answer, count in counts.items() if count == max(counts.values())]
    return (right in most) / len(most)


def consensus(answers: Sequence[int]) -> int:
    """Each digit as most have it; where as many have another, as the first of these has it."""
    columns = zip(*(str(answer).zfill(2 * DIGITS) for answer in answers), strict=True)
    return int("".join(Counter(column).most_common(1)[0][0] for column in columns))


if __name__ == "__main__":
    main()
