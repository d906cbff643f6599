"""What a source holds of a teacher's: reasoning, ``</think>``, and the answer after it."""

from __future__ import annotations

from dataclasses import dataclass

from parathinker.data.teacher.reasoning import CLOSE, OPEN, split_think


@dataclass(frozen=True)
class TeacherText:
    """One text that a teacher wrote about a question, as it was published."""

    text: str
    model: str = ""
    """Who wrote it, where that is known."""
    finish_reason: str = "stop"
    """``stop``: it ended by itself; ``length``: it was cut off."""


def split_reasoning(text: str) -> tuple[str, str]:
    """Reasoning and answer; without ``</think>`` all of it is reasoning, and there is no answer."""
    return split_think(text if CLOSE in text else OPEN + text.strip().removeprefix(OPEN))


def join_reasoning(reasoning: str, answer: str) -> str:
    """The text that :func:`split_reasoning` takes apart."""
    return f"{reasoning}\n{CLOSE}\n\n{answer}"
