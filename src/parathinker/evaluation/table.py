"""The first table: single path, majority vote and native parallel thinking on the model's task.

All methods share the same sampled paths, fewer being the first of many, so they differ in nothing
but what is made of them. Problems and scores are reasoning-gym's. Two controls ask whether the
summary reads its paths: withheld (the paths are empty) and shuffled (each question gets another
question's paths).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from parathinker import Answer, ParaThinker, ThinkingParams
from parathinker.data import products
from parathinker.errors import UsageError

CHUNK = 20
"""Questions worked on at once."""
Progress = Callable[[str, int, int], None]
"""Called with what is being measured, questions done, and how many there are."""


@dataclass(frozen=True)
class Score:
    """Accuracy of one method over all questions."""

    method: str
    paths: int
    accuracy: float
    """Percent."""
    standard_error: float
    """Percentage points, of the mean over questions."""
    tokens: float
    """Generated tokens a question, control tokens included."""


@dataclass(frozen=True)
class Table:
    """All scores of one model, and how they were measured."""

    scores: list[Score]
    gains: dict[int, tuple[float, float]]
    """For each P: parallel minus majority in points, and its paired standard error."""
    questions: int
    digits: int
    temperature: float
    seed: int


def measure(
    model: ParaThinker,
    questions: int = 300,
    path_counts: Sequence[int] = (1, 2, 4, 8),
    digits: int = products.DIGITS,
    temperature: float | None = None,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Table:
    """Measure a model of the ``products`` task on problems held out from training.

    Raises:
        UsageError: the model was made for another task, or for none; or it cannot think along so
            many paths.
    """
    if model.task != "products":
        raise UsageError(
            f"this table is about the task 'products'; the model's task is {model.task!r}"
        )
    for count in path_counts:
        if not 1 <= count <= model.max_paths:
            raise UsageError(
                f"numbers of paths should be from 1 to {model.max_paths} for this model; "
                f"got {count}"
            )
    most = max(path_counts)
    params = ThinkingParams(
        paths=most, temperature=temperature, termination="last-finish", seed=seed
    )
    run = _Run(model, products.held_out_problems(questions, digits), progress)
    greedy = run.think("single path, greedy", ThinkingParams(paths=1, temperature=0.0, seed=seed))
    scores = [_score("single path, greedy", 1, run.path_scores(greedy), _path_tokens(greedy))]

    sampled = run.think(f"{most} paths", params)
    paths = [[path.token_ids for path in answer.paths] for answer in sampled]
    gains: dict[int, tuple[float, float]] = {}
    for count in sorted(set(path_counts)):
        # Each path has randomness of its own, so the first of many are what fewer would have been.
        answers = sampled
        if count < most:
            answers = run.summarize(
                f"summary of {count}", [given[:count] for given in paths], params
            )
        thinking, everything = _path_tokens(answers), _all_tokens(answers)
        if count == 1:
            scores.append(_score("single path, sampled", 1, run.path_scores(answers), thinking))
        majority, parallel = run.majority_scores(answers), run.summary_scores(answers)
        scores += [
            _score("majority vote", count, majority, thinking),
            _score("parallel thinking", count, parallel, everything),
            _score("any path right", count, run.any_scores(answers), thinking),
        ]
        gain = [a - b for a, b in zip(parallel, majority, strict=True)]
        gains[count] = 100 * statistics.fmean(gain), 100 * _standard_error(gain)

    withheld: list[list[list[int]]] = [[[] for _ in given] for given in paths]
    for name, given_paths in (
        ("summary, paths withheld", withheld),
        ("summary, paths of another question", [*paths[1:], paths[0]]),
    ):
        controls = run.summarize(name, given_paths, params)
        summary_tokens = [answer.usage.summary_tokens for answer in controls]
        scores.append(_score(name, most, run.summary_scores(controls), summary_tokens))
    used = sampled[0].params.temperature
    assert used is not None
    return Table(scores, gains, len(sampled), digits, used, seed)


class _Run:
    """Answers to a fixed list of questions, and their scores."""

    def __init__(
        self, model: ParaThinker, entries: list[dict[str, Any]], progress: Progress
    ) -> None:
        self._model, self._entries, self._progress = model, entries, progress
        self._questions = [str(entry["question"]) for entry in entries]

    def think(self, what: str, params: ThinkingParams) -> list[Answer]:
        return self._in_chunks(what, lambda here: self._model.think(self._questions[here], params))

    def summarize(
        self, what: str, paths: list[list[list[int]]], params: ThinkingParams
    ) -> list[Answer]:
        return self._in_chunks(
            what,
            lambda here: self._model.summarize(self._questions[here], paths[here], params),
        )

    def _in_chunks(self, what: str, work: Callable[[slice], list[Answer]]) -> list[Answer]:
        answers: list[Answer] = []
        while len(answers) < len(self._questions):
            self._progress(what, len(answers), len(self._questions))
            answers += work(slice(len(answers), len(answers) + CHUNK))
        self._progress(what, len(answers), len(self._questions))
        return answers

    def path_scores(self, answers: list[Answer]) -> list[float]:
        """Mean score of each question's paths."""
        return [statistics.fmean(scores) for scores in self._each_path(answers)]

    def any_scores(self, answers: list[Answer]) -> list[float]:
        return [max(scores) for scores in self._each_path(answers)]

    def summary_scores(self, answers: list[Answer]) -> list[float]:
        return [
            _is_right(products.parse_answer(answer.text), entry)
            for answer, entry in zip(answers, self._entries, strict=True)
        ]

    def majority_scores(self, answers: list[Answer]) -> list[float]:
        """The most frequent answer's score; the mean over those that tie."""
        scores = []
        for answer, entry in zip(answers, self._entries, strict=True):
            votes = Counter(
                number
                for path in answer.paths
                if (number := products.parse_answer(path.text)) is not None
            )
            most = max(votes.values(), default=0)
            winners = [number for number, count in votes.items() if count == most]
            scores.append(
                statistics.fmean(_is_right(number, entry) for number in winners) if winners else 0.0
            )
        return scores

    def _each_path(self, answers: list[Answer]) -> list[list[float]]:
        return [
            [_is_right(products.parse_answer(path.text), entry) for path in answer.paths]
            for answer, entry in zip(answers, self._entries, strict=True)
        ]


def _is_right(answer: str | None, entry: dict[str, Any]) -> float:
    return float(products.score(answer, entry) == 1.0)


def _score(method: str, paths: int, scores: list[float], tokens: Sequence[int]) -> Score:
    return Score(
        method,
        paths,
        100 * statistics.fmean(scores),
        100 * _standard_error(scores),
        statistics.fmean(tokens),
    )


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def _path_tokens(answers: list[Answer]) -> list[int]:
    return [answer.usage.path_tokens for answer in answers]


def _all_tokens(answers: list[Answer]) -> list[int]:
    return [answer.usage.path_tokens + answer.usage.summary_tokens for answer in answers]
