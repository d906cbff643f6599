"""Made-up questions and paths for tests of building: one sum, thought about in four styles."""

from __future__ import annotations

from typing import Any

from parathinker.data.build.sources import Candidate
from parathinker.data.schema import Question, question_id

STYLES = (
    "First I add the tens of {a} and {b}, then their ones, and carry what is left over. ",
    "Counting up from {a} in steps of ten, and by ones at the end, {b} takes me there. ",
    "Let x = {a} and y = {b}; x + y is what we want, so write them below each other. ",
    "Round {b} up, add it to {a}, and take off again what was too much. ",
)


def question(text: str = "What is 20 + 22?", answer: str | None = "42") -> Question:
    return Question(question_id(text), text, answer, "test")


def thought(index: int, right: bool = True, words: str = "") -> str:
    """A path in one of four styles, which hardly share a run of three words."""
    style = STYLES[index % len(STYLES)].format(a=20, b=22)
    return f"{style}{words}So it is {42 if right else 40 - index}."


def candidate(index: int, right: bool = True, **more: Any) -> Candidate:
    text = more.pop("text", thought(index, right))
    return Candidate(index, text, more.pop("answer_text", text), **more)
