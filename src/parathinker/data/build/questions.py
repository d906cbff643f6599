"""Which of the sources' questions a dataset is made of: each once, none of a benchmark's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from parathinker.data.build.decontaminate import Decontaminator
from parathinker.data.build.similarity import near_duplicate_questions
from parathinker.data.build.tally import DroppedQuestion, Tally
from parathinker.data.schema import Question, question_id
from parathinker.scoring.extract import plain


def unique_questions(
    sources: Iterable[Iterable[Question]], threshold: float
) -> tuple[list[Question], Tally, list[DroppedQuestion]]:
    """The questions of all sources, the first of each text and of each that is much like it.

    A question that several sources have under one id is one question, and not dropped.
    """
    questions: dict[str, Question] = {}
    for source in sources:
        for question in source:
            questions.setdefault(question.id, question)
    tally, dropped, kept = Tally("duplicate questions", "questions"), [], list[Question]()
    first: dict[str, Question] = {}
    for question in questions.values():
        same = first.setdefault(question_id(question.question), question)
        if same is question:
            kept.append(question)
        else:
            dropped.append(_repeated(question, same, "same text", tally))
    answers = [None if one.answer is None else plain(one.answer) for one in kept]
    similar = near_duplicate_questions([one.question for one in kept], answers, threshold)
    for i, j in sorted(similar.items()):
        dropped.append(_repeated(kept[i], kept[j], "near-duplicate", tally))
    kept = [question for i, question in enumerate(kept) if i not in similar]
    tally.kept = len(kept)
    return kept, tally, dropped


def decontaminated(
    questions: Sequence[Question], benchmarks: Decontaminator
) -> tuple[list[Question], Tally, list[DroppedQuestion]]:
    """The questions that no benchmark has, and what the others match."""
    tally, dropped, kept = Tally("decontamination", "questions"), [], []
    for question in questions:
        match = benchmarks.match(question.question)
        if match is None:
            kept.append(question)
            continue
        reason = f"in {match.benchmark}"
        tally.drop(reason)
        dropped.append(
            DroppedQuestion(question.id, question.question, tally.step, reason, asdict(match))
        )
    tally.kept = len(kept)
    return kept, tally, dropped


def split_of(identifier: str, validation: float) -> str:
    """``train`` or ``validation``, by a hash: what is added later moves no other question."""
    digest = hashlib.sha256(f"split/{identifier}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if share < validation else "train"


def _repeated(question: Question, of: Question, reason: str, tally: Tally) -> DroppedQuestion:
    tally.drop(reason)
    detail = {"of": of.id, "of_question": of.question}
    return DroppedQuestion(question.id, question.question, tally.step, reason, detail)
