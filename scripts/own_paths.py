"""Training examples from a model's own paths: it thinks about problems that training may see.

The paths are right and wrong as it goes; the loss covers the right ones only, and the summary where
its paths hold all of its digits. Two files come of it: OUTPUT, with one example for each problem,
in which many summaries read some of its 16 paths, one in which the teacher shows how some wrong
paths should have gone, and one to learn reading from routes that are hard to read; and
OUTPUT-parts, with a few examples for each problem that share its paths, for chains. A killed run
goes on where it was.

    python scripts/own_paths.py runs/tiny/model runs/tiny/paths-1 --problems 600
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from parathinker import ParaThinker, ThinkingParams
from parathinker.data import products
from parathinker.data.multiplication import Teacher
from parathinker.data.products_source import ProductsSource
from parathinker.data.schema import Example, PathText, write_examples

DIGITS = (1, 2, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
REPHRASE = 0.5
READINGS = (*[1] * 16, *[2] * 10, *[3] * 3, *[4] * 3, *[6] * 2, *[8] * 3)
"""How many of a problem's paths each summary reads: one set of paths, read in many ways. Few paths
seldom hold the whole answer, so they are drawn more often. More than 8 at a time it never sees, so
that what it makes of 16 is its own."""
READINGS_OF_FIRST = (1, 2, 2, 2, 2, 3, 3, 4, 4, 6, 8)
"""Who asks for P paths gets the first P thought ids. Among sets drawn at random these are rare, and
they have a character: the first two are both hard to read (see ``LATE``)."""
PARTS = ((8, 8), (8, 4, 4), (6, 6, 4), (8, 5, 2, 1), (4, 4, 8), (3, 5, 8))
"""How many paths each of a problem's parts has, one line drawn for each problem."""
CORRECTED = 3
"""How many of a problem's wrong paths the teacher shows: where few are right, there would be little
else to learn paths from, and the loss on summaries spoils them."""
READINGS_OF_RIGHT = (*[1] * 6, *[2] * 3, 3)
"""Of those: routes on which the model is seldom right would seldom be read alone otherwise."""
TEMPERATURES = (0.0, 0.5, 1.0)
"""In turn: a summary should read greedy paths as well as wild ones."""
LATE = (1, 2, 15, 16)
"""Routes that come to the highest digits last. A summary that reads one of these alone has to look
at the last line; on all others the line before will do, and this is what it learns by itself."""
READINGS_OF_LATE = ((0,), (1,), (2,), (3,), (0, 1), (2, 3), (0,), (1,))
AT_ONCE = 24


def main() -> None:
    """Sample, and write examples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of the model that thinks")
    parser.add_argument("output", type=Path, help="beginning of the names of what is written")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", choices=products.TEACHERS, default="head")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    log = Path(f"{args.output}.log.jsonl")
    sample(args.model, log, args.problems, args.seed)
    teacher = products.TEACHERS[args.teacher]
    problems = [Paths.from_line(line, teacher) for line in log.read_text("utf-8").splitlines()]
    written = (
        one
        for problem in problems
        for one in (read_often(problem), *corrections(problem), late_routes(problem))
    )
    write_examples(f"{args.output}.jsonl", written)
    parts = [part for problem in problems for part in (*in_parts(problem), *corrections(problem))]
    random.Random(args.seed).shuffle(parts)
    write_examples(f"{args.output}-parts.jsonl", parts)
    right = sum(len(problem.paths) - len(problem.wrong) for problem in problems)
    print(f"{len(problems)} problems, {right} right paths")


def sample(folder: Path, log: Path, count: int, seed: int) -> None:
    """Let the model think about problems ``seed``, one line of the log for each."""
    source = ProductsSource(seed, digits=DIGITS, rephrase=REPHRASE)
    lines = log.read_text("utf-8").splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
    log.write_text("".join(whole), "utf-8")
    done = len(whole)
    problems = iter(source.example(i, 1).question for i in range(done, count))
    model = ParaThinker.from_pretrained(folder)
    while questions := list(islice(problems, AT_ONCE)):
        params = ThinkingParams(
            paths=model.max_paths,
            temperature=TEMPERATURES[done // AT_ONCE % len(TEMPERATURES)],
            termination="last-finish",
            max_summary_tokens=1,
            seed=seed,
        )
        with log.open("a", encoding="utf-8") as file:
            for answer, question in zip(model.think(questions, params), questions, strict=True):
                paths = {path.thought_id: path.text for path in answer.paths}
                file.write(json.dumps({"question": question, "paths": paths}) + "\n")
        done += len(questions)
        print(f"{done} of {count} problems", flush=True)


@dataclass(frozen=True)
class Paths:
    """All paths of one problem."""

    problem: products.Problem
    paths: tuple[PathText, ...]
    teacher: Teacher

    @property
    def wrong(self) -> list[PathText]:
        """Those that are not to be learned from their beginning."""
        return [path for path in self.paths if path.given or not path.learn]

    def worked_out(self, thought_id: int, learn: bool = True) -> PathText:
        """As the teacher goes about it."""
        text = products.work_out(self.problem, thought_id, teacher=self.teacher)
        return PathText(text, learn, thought_id=thought_id)

    @classmethod
    def from_line(cls, line: str, teacher: Teacher) -> Paths:
        """Of a line of the log."""
        logged = json.loads(line)
        problem = products.parse_question(logged["question"])
        assert problem is not None, "the source makes problems of the task"
        paths = (judged(problem, text, int(i), teacher) for i, text in logged["paths"].items())
        return cls(problem, tuple(paths), teacher)


def judged(problem: products.Problem, text: str, thought_id: int, teacher: Teacher) -> PathText:
    """A path, to be learned if it is right, and otherwise its check, if the teacher has one."""
    flawless = products.work_out(problem, thought_id, teacher=teacher)
    if text == flawless:
        return PathText(text, thought_id=thought_id)
    finished = teacher.finished(problem.a, problem.b, text, thought_id)
    if finished is None:
        return PathText(text, learn=False, thought_id=thought_id)
    whole, given = finished
    # A wrong check, too, is there to be read as often as there to be put right.
    checked = text.count("\n") == whole.count("\n")
    if checked and text != whole and random.Random(text).random() < 0.5:
        return PathText(text, learn=False, thought_id=thought_id)
    return PathText(whole, thought_id=thought_id, given=0 if whole == flawless else given)


def read_often(given: Paths) -> Example:
    """One example with all paths and many summaries."""
    rng = random.Random(given.problem.question)
    return products.summed_up(
        given.problem, given.paths, READINGS, rng, given.teacher, first=READINGS_OF_FIRST
    )


def corrections(given: Paths) -> Iterator[Example]:
    """An example of what some wrong paths should have been, if there are any."""
    wrong = [path.thought_id for path in given.wrong if path.thought_id]
    rng = random.Random(f"{given.problem.question} again")
    drawn = rng.sample(wrong, min(CORRECTED, len(wrong)))
    shown = [given.worked_out(one) for one in drawn]
    if shown:
        yield products.summed_up(given.problem, shown, READINGS_OF_RIGHT, rng, given.teacher)


def late_routes(given: Paths) -> Example:
    """An example to learn reading from, not writing."""
    paths = tuple(given.worked_out(i, learn=False) for i in LATE)
    answer = given.teacher.answer_line(given.problem.answer)
    return Example(given.problem.question, paths, answer, readings=READINGS_OF_LATE)


def in_parts(given: Paths) -> Iterator[Example]:
    """Several examples that share the paths out."""
    rng = random.Random(given.problem.question)
    rest = iter(rng.sample(given.paths, len(given.paths)))
    for size in rng.choice(PARTS):
        some = tuple(islice(rest, size))
        yield products.summed_up(given.problem, some, (size,), rng, given.teacher)


if __name__ == "__main__":
    main()
