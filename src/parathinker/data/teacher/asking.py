"""What a teacher is asked and what it gives back: the door that all teachers stand behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Protocol

from parathinker.data.samples import Failure, Sample
from parathinker.data.schema import Question
from parathinker.errors import ParaThinkerError

GRACE_S = 3.0
"""How long a teacher that is stopped waits for what is under way."""


REFUSED_AT_FIRST = 8
"""So many questions refused, and none answered: it is not the questions."""


class TeacherError(ParaThinkerError):
    """No teacher can go on: a wrong key, an unknown model, nobody answers."""


@dataclass(frozen=True)
class Ask:
    """One path that is wanted."""

    question: Question
    index: int
    seed: int | None


class Refusals:
    """Holds refusals back until something was answered: before, it may be the request's fault.

    When ``REFUSED_AT_FIRST`` questions were refused and none answered, it is, and nothing should be
    held against the questions.
    """

    def __init__(self) -> None:
        self.of_question: dict[str, str] = {}
        """What was said to each question that was refused."""
        self._held: list[Failure] = []
        self._answered = False

    @property
    def are_too_many(self) -> bool:
        """Whether it is the request."""
        return not self._answered and len(self.of_question) >= REFUSED_AT_FIRST

    def add(self, ask: Ask, message: str) -> list[Failure]:
        """Note a refusal; returns the failures that are certain."""
        self.of_question[ask.question.id] = message
        self._held.append(Failure(ask.question.id, ask.index, message))
        return self.release() if self._answered else []

    def answered(self) -> list[Failure]:
        """Something was answered; returns the failures that are certain now."""
        self._answered = True
        return self.release()

    def release(self) -> list[Failure]:
        """All that is held back."""
        held, self._held = self._held, []
        return held


class Teacher(Protocol):
    """Thinks along paths."""

    def outcomes(
        self, asks: Iterator[Ask], stop: asyncio.Event
    ) -> AsyncGenerator[Sample | Failure, None]:
        """Ask for all, as many at a time as it can, and yield what arrives in any order.

        Asks are taken one by one, when there is somebody to ask. Once ``stop`` is set nothing new
        is asked, and what arrives within ``GRACE_S`` is still yielded.

        Raises:
            TeacherError: no teacher can go on; what arrived before was yielded.
        """
        ...


def seed_of(base: int | None, question_id: str, index: int) -> int | None:
    """The seed of a path, in 31 bits: the same on every run, different for a question's paths."""
    if base is None:
        return None
    digest = hashlib.blake2b(f"{base}/{question_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + index) % 2**31
