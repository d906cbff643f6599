"""Single answers for the report's reader: each question with all that was written for it.

What was sampled once and read by several methods is held once. Texts that are very long lose their
middles, and only the first questions are taken, so that the page stays small enough to open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from parathinker.data.schema import Question
from parathinker.evaluation.generations import Written
from parathinker.evaluation.report.findings import Finding
from parathinker.evaluation.store import ANSWER_KEPT, Outcome, RunStore
from parathinker.scoring import ScoringPool, extract_answer
from parathinker.scoring.extract import plain

MOST_CHARACTERS = 24_000
"""Of one text; the middle of a longer one is left out."""
MOST_BYTES = 16 * 2**20
"""Of all answers on a page."""
Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Text:
    """A path, a chain or a summary, as it was sampled."""

    text: str
    tokens: int
    """With opening and closing ones."""
    finish_reason: str
    is_summary: bool
    answer: str | None
    """What it comes to."""
    score: float | None
    """How right that is; None where nothing can tell."""


@dataclass(frozen=True)
class Marked:
    """A method's answer to a question."""

    method: str
    width: int
    score: float
    answers: tuple[str, ...]
    tokens: int
    depth: int
    note: str
    cut: int | None
    """The length in tokens at which longer paths were cut; None where it cannot be said."""
    groups: tuple[int, ...]
    """Places in the texts of its generations."""


@dataclass
class Item:
    """A question, answered once by each method."""

    benchmark: str
    question: str
    reference: str | None
    number: int
    """Its place in the benchmark, from 1."""
    sample: int
    """From 1."""
    marks: list[Marked] = field(default_factory=list)
    texts: list[list[Text]] = field(default_factory=list)
    """Generation by generation."""


@dataclass(frozen=True)
class Reader:
    """The answers of a run that its page shows."""

    methods: Sequence[str]
    """In the run's order."""
    items: Sequence[Item]
    there: int
    """How many the run has."""

    def to_dict(self) -> dict[str, Any]:
        """For the page's script."""
        return {"methods": self.methods, "items": [asdict(item) for item in self.items]}


def answers_of(
    store: RunStore,
    finding: Finding,
    questions: int,
    most_bytes: int = MOST_BYTES,
    watch: Watch = lambda *_: None,
) -> Reader:
    """The first questions' answers; all first samples come before any second ones.

    Args:
        questions: of each benchmark, how many at most.
        most_bytes: where to stop.
    """
    by_place: dict[tuple[int, int, int], tuple[str, Question, list[tuple[str, int, Outcome]]]] = {}
    there = 0
    for at, standing in enumerate(finding.standings):
        known = {q.id: (i, q) for i, q in enumerate(store.questions(standing.benchmark))}
        seen = set()
        for cell, outcome in store.outcomes(standing.benchmark):
            if cell.question_id not in known or cell.method not in standing.methods:
                continue
            place, question = known[cell.question_id]
            seen.add((cell.question_id, cell.replicate))
            if place < questions:
                entry = by_place.setdefault(
                    (cell.replicate, at, place), (standing.benchmark, question, [])
                )
                entry[2].append((cell.method, cell.width, outcome))
        there += len(seen)
    taken: list[tuple[tuple[int, int, int], Item]] = []
    size = 0
    with ScoringPool() as pool:
        judge = Judge(store, pool)
        for done, (key, (benchmark, question, outcomes)) in enumerate(sorted(by_place.items())):
            watch("answers", done, len(by_place))
            item = _item(store, judge, benchmark, question, key, outcomes)
            size += len(json.dumps(asdict(item)))
            if size > most_bytes and taken:
                break
            taken.append((key, item))
        watch("answers", len(by_place), len(by_place))
    in_order = sorted(taken, key=lambda one: (one[0][1], one[0][2], one[0][0]))
    return Reader(finding.methods, [item for _, item in in_order], there)


class Judge:
    """How right texts are: what the run found out, else scored now.

    Texts of one question that come to the same answer score the same, as they do in a vote.
    """

    def __init__(self, store: RunStore, pool: ScoringPool) -> None:
        self._store, self._pool = store, pool
        self._by_answer: dict[tuple[str, str], float | None] = {}

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Take over what a method's answer scored."""
        if len(outcome.answers) == 1 and len(outcome.answers[0]) <= ANSWER_KEPT:
            self._by_answer.setdefault(_key(question, outcome.answers[0]), outcome.score)

    def score(self, question: Question, text: str) -> float | None:
        """0 to 1; None where there is nothing to score against."""
        found = self._store.score(question.id, text)
        key = _key(question, text)
        if found is None and key in self._by_answer:
            return self._by_answer[key]
        if found is None:
            found = self._pool.check(question, text).score
        self._by_answer[key] = found
        return found


def _key(question: Question, text: str) -> tuple[str, str]:
    answer = extract_answer(text)
    return question.id, text if answer is None else plain(answer)


def cut_length(outcome: Outcome, lengths: Sequence[int]) -> int | None:
    """The length at which an outcome's paths were cut.

    An outcome tells its longest path: all that is one after another, without the summary. Where
    the sampled paths, none longer than that, make up all its path tokens, that was the cut.

    Args:
        lengths: of the paths as they were sampled, in tokens.

    Returns:
        None where the outcome was made in another way, as by a tree.
    """
    longest = outcome.depth - outcome.summary_tokens
    within = sum(min(length, longest) for length in lengths)
    return longest if within == outcome.path_tokens else None


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text, or its beginning and end and how much is left out between them."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n\n[… {len(text) - 2 * half:,} characters left out …]\n\n{text[-half:]}"


def _item(
    store: RunStore,
    judge: Judge,
    benchmark: str,
    question: Question,
    key: tuple[int, int, int],
    outcomes: Sequence[tuple[str, int, Outcome]],
) -> Item:
    replicate, _, place = key
    item = Item(benchmark, question.question, question.answer, place + 1, replicate + 1)
    places: dict[str, int] = {}
    written: dict[str, tuple[Written, ...]] = {}
    for method, width, outcome in outcomes:
        judge.learn(question, outcome)
        for name in outcome.generations:
            if name in places:
                continue
            made = store.generation(name)
            written[name] = made.segments if made else ()
            places[name] = len(item.texts)
            item.texts.append([_text(judge, question, one) for one in written[name]])
        # Of a long answer the outcome keeps the end only.
        texts = [one.text for name in outcome.generations for one in written[name]]
        wholes = [
            next((text for text in texts if text.endswith(end.removeprefix("…"))), end)
            for end in outcome.answers
        ]
        lengths = list(_lengths(written, outcome))[:width]
        item.marks.append(
            Marked(
                method,
                width,
                outcome.score,
                tuple(_short_answer(text) or "nothing" for text in wholes),
                outcome.tokens,
                outcome.depth,
                outcome.note,
                cut_length(outcome, lengths),
                tuple(places[name] for name in outcome.generations),
            )
        )
    return item


def _lengths(written: Mapping[str, Sequence[Written]], outcome: Outcome) -> Iterator[int]:
    for name in outcome.generations:
        yield from (one.tokens for one in written[name] if one.thought_id)


def _short_answer(text: str) -> str | None:
    answer = extract_answer(text)
    return None if answer is None else shortened(answer, 400)


def _text(judge: Judge, question: Question, one: Written) -> Text:
    return Text(
        shortened(one.text),
        one.tokens,
        one.finish_reason,
        one.thought_id == 0,
        _short_answer(one.text),
        judge.score(question, one.text),
    )
