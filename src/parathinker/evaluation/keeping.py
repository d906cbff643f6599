"""What remembers what models wrote and how it scored: a run's store, or nothing at all."""

from __future__ import annotations

from typing import Protocol

from parathinker.evaluation.generations import Generation


class Kept(Protocol):
    """What remembers what was written; a :class:`~parathinker.evaluation.store.RunStore`."""

    def generation(self, key: str) -> Generation | None: ...

    def add_generation(self, made: Generation, kind: str, question_id: str) -> None: ...

    def score(self, question_id: str, text: str) -> float | None: ...

    def add_score(self, question_id: str, text: str, score: float, note: str) -> None: ...


class Forgetful:
    """Remembers nothing, and calls every answer wrong: for timing what a method really does."""

    def generation(self, key: str) -> Generation | None:
        return None

    def add_generation(self, made: Generation, kind: str, question_id: str) -> None:
        pass

    def score(self, question_id: str, text: str) -> float | None:
        return 0.0

    def add_score(self, question_id: str, text: str, score: float, note: str) -> None:
        pass
