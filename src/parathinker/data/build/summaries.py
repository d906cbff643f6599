"""Summaries that a teacher writes after reading an example's paths, as the model will have to.

A build says what to ask (:func:`summary_question`); ``parathinker data sample`` asks it, like any
question; the next build with the same options takes the first right answer as the summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from parathinker.data.build.sources import StoredSamples
from parathinker.data.build.verify import ScoreCache, score_key
from parathinker.data.schema import Example, Question, question_id
from parathinker.scoring.pool import can_score

_PROMPT = r"""Several attempts at one question follow. Some may be wrong, or break off.

Question:
{question}

{attempts}

Compare the attempts: say in a few sentences where they disagree and which reasoning holds. End with the final answer within \boxed{}."""  # noqa: E501


def summary_question(question: Question, paths: Sequence[str]) -> Question:
    """What a teacher is asked for a summary of these paths; scored like the question itself."""
    attempts = "\n\n".join(f"Attempt {i}:\n{path}" for i, path in enumerate(paths, 1))
    text = _PROMPT.replace("{question}", question.question).replace("{attempts}", attempts)
    return Question(question_id(text), text, question.answer, question.source, question.metadata)


def summary_questions(
    examples: Iterable[Example], questions: Mapping[str, Question]
) -> Iterator[Question]:
    """What to ask about each example, given the questions that they are of by id."""
    for example in examples:
        yield summary_question(questions[example.id], [path.text for path in example.paths])


class WrittenSummaries:
    """A store of what teachers answered to such questions.

    Args:
        path: the store.
        scores: of the answers in it.
        threshold: the score from which on an answer is right.
    """

    def __init__(self, path: Path, scores: ScoreCache, threshold: float) -> None:
        self.source = StoredSamples(path, "reasoning")
        self.scores = scores
        self._threshold = threshold

    def about(self, question: Question, paths: Sequence[str]) -> str | None:
        """The first right summary of exactly these paths; where nobody knows, the first one."""
        asked = summary_question(question, paths)
        for candidate in self.source.candidates(asked.id):
            said = candidate.said
            if not said or not candidate.finished:
                continue
            scored = self.scores.get(score_key(asked, candidate))
            right = scored is not None and (scored.score or 0) >= self._threshold
            if right or not can_score(asked):
                return said
        return None
