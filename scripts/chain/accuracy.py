"""How often answers are right: one path, the vote of several, and the summary that reads them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parathinker import Answer, ParaThinker, ThinkingParams
from parathinker.data.samples import SampleStore
from parathinker.data.schema import Question
from parathinker.scoring import extract_answer, score_all
from parathinker.scoring.extract import plain

CHUNK = 25
"""Questions that the engine gets at once."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    method: str
    paths: int
    accuracy: float
    """Percent."""
    standard_error: float
    """Percentage points, of the mean over questions."""
    tokens: float
    """Generated a question."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Thought:
    """One path's text, and what it took."""

    text: str
    tokens: int


def stored_thoughts(questions: Sequence[Question], store: Path) -> list[list[Thought]]:
    """The paths of each question in a store."""
    with SampleStore(store) as opened:
        return [
            [Thought(one.answer, one.completion_tokens) for one in opened.samples(question.id)]
            for question in questions
        ]


def path_rows(
    name: str, questions: Sequence[Question], thoughts: Sequence[Sequence[Thought]]
) -> list[Row]:
    """One path, the majority and the best of several, all of the same paths."""
    pairs = [(q, t.text) for q, group in zip(questions, thoughts, strict=True) for t in group]
    scores = iter(score_all(pairs))
    right = [[float((next(scores) or 0.0) == 1.0) for _ in group] for group in thoughts]
    paths = len(thoughts[0])
    tokens = [sum(t.tokens for t in group) for group in thoughts]
    one = [statistics.fmean(group) for group in right]
    rows = [row(f"{name}, one path, sampled", 1, one, [count / paths for count in tokens])]
    vote = [_majority(group, known) for group, known in zip(thoughts, right, strict=True)]
    rows.append(row(f"{name}, majority of {paths}", paths, vote, tokens))
    rows.append(row(f"{name}, any of {paths} right", paths, [max(g) for g in right], tokens))
    return rows


def text_row(
    method: str,
    paths: int,
    questions: Sequence[Question],
    texts: Sequence[str],
    tokens: Sequence[float],
) -> Row:
    """One text for each question."""
    scores = score_all(zip(questions, texts, strict=True))
    return row(method, paths, [float((s or 0.0) == 1.0) for s in scores], tokens)


def row(method: str, paths: int, right: Sequence[float], tokens: Sequence[float]) -> Row:
    """A line from what each question scored, 0 to 1."""
    spread = statistics.stdev(right) if len(right) > 1 else float("nan")
    error = 100 * spread / len(right) ** 0.5
    return Row(method, paths, 100 * statistics.fmean(right), error, statistics.fmean(tokens))


def trained_rows(
    model: Path, questions: Sequence[Question], paths: int, temperature: float
) -> list[Row]:
    """Measure a trained model in its own engine."""
    texts = [question.question for question in questions]
    with ParaThinker.from_pretrained(model) as thinker:

        def think(params: ThinkingParams) -> list[Answer]:
            answers: list[Answer] = []
            for begin in range(0, len(texts), CHUNK):
                answers += thinker.think(texts[begin : begin + CHUNK], params)
            return answers

        def params(count: int, heat: float) -> ThinkingParams:
            return ThinkingParams(
                paths=count,
                temperature=heat,
                termination="last-finish",
                seed=0,
                logprobs=False,
            )

        greedy = think(params(1, 0.0))
        single = think(params(1, temperature))
        many = think(params(paths, temperature))
        withheld: list[list[list[int]]] = [[[]] * paths for _ in texts]
        blind = thinker.summarize(texts, withheld, params(paths, temperature))
    name = "trained"
    thoughts = [[Thought(p.text, len(p.token_ids)) for p in answer.paths] for answer in many]
    greedy_texts = [answer.paths[0].text for answer in greedy]
    greedy_tokens = [float(answer.usage.path_tokens) for answer in greedy]
    rows = [text_row(f"{name}, one path, greedy", 1, questions, greedy_texts, greedy_tokens)]
    rows += path_rows(name, questions, thoughts)
    for method, count, answers in (
        (f"{name}, one path + summary", 1, single),
        (f"{name}, {paths} paths + summary", paths, many),
        (f"{name}, summary, paths withheld", paths, blind),
    ):
        said = [answer.text for answer in answers]
        spent = [float(a.usage.path_tokens + a.usage.summary_tokens) for a in answers]
        if answers is blind:
            spent = [float(a.usage.summary_tokens) for a in answers]
        rows.append(text_row(method, count, questions, said, spent))
    return rows


def _majority(group: Sequence[Thought], right: Sequence[float]) -> float:
    """The most frequent answer's score; the mean over those that tie."""
    votes: dict[str, list[float]] = {}
    for thought, score in zip(group, right, strict=True):
        answer = extract_answer(thought.text)
        if answer is not None:
            votes.setdefault(plain(answer), []).append(score)
    most = max(map(len, votes.values()), default=0)
    winners = [statistics.fmean(scores) for scores in votes.values() if len(scores) == most]
    return statistics.fmean(winners) if winners else 0.0
