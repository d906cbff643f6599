"""Checking all candidates' answers, in all processes; what was found out is kept in a file.

The file lies beside the samples. A build that was killed goes on where it was, and one with other
settings checks nothing again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parathinker.data.build.sources import Candidate, Source
from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.scoring import Scored, ScoringPool, scorer_version
from parathinker.scoring.pool import NO_REFERENCE, TIMED_OUT

SAVE_S = 1.0
"""How often scores are saved; a killed build loses no more than that."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    question_id TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    scorer TEXT NOT NULL,
    digest TEXT NOT NULL,
    score REAL,
    note TEXT NOT NULL,
    timeout_s REAL NOT NULL,
    PRIMARY KEY (question_id, "index", scorer)
) WITHOUT ROWID
"""

Progress = Callable[[str, int, int], None]
"""Called with the step, how many are done, and how many there are."""


@dataclass(frozen=True)
class ScoreKey:
    """What a score belongs to."""

    question_id: str
    index: int
    digest: str
    """Of all that was scored: another answer under the same index is another thing."""


class ScoreCache:
    """Scores by question, index and version of the scorer, in an SQLite file.

    Raises:
        UsageError: the file cannot be made or written, or is something else.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path, self._timeout_s = path, timeout_s
        self._scorer = scorer_version()
        self._waiting: list[tuple[object, ...]] = []
        self._saved_at = time.monotonic()
        try:
            self._db = sqlite3.connect(str(path), timeout=30)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise UsageError(
                f"scores cannot be kept in {path}: {error}; name another place with --scores"
            ) from error

    def get(self, key: ScoreKey) -> Scored | None:
        """The score, None if it is not known, or if there is more time now than there was."""
        row = self._db.execute(
            'SELECT digest, score, note, timeout_s FROM scores WHERE question_id = ? AND "index" = '
            "? AND scorer = ?",
            (key.question_id, key.index, self._scorer),
        ).fetchone()
        if row is None or row[0] != key.digest:
            return None
        if row[2] == TIMED_OUT and row[3] < self._timeout_s:
            return None
        return Scored(row[1], row[2])

    def put(self, key: ScoreKey, scored: Scored) -> None:
        """Keep a score; it is safe within ``SAVE_S``, or after :meth:`save`."""
        self._waiting.append(
            (
                *(key.question_id, key.index, self._scorer, key.digest),
                *(scored.score, scored.note, self._timeout_s),
            )
        )
        if time.monotonic() - self._saved_at >= SAVE_S:
            self.save()

    def save(self) -> None:
        """Write what is waiting."""
        try:
            with self._db:
                self._db.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)", self._waiting
                )
        except sqlite3.Error as error:
            raise UsageError(
                f"scores cannot be kept in {self.path}: {error}; name another place with --scores"
            ) from error
        self._waiting.clear()
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        try:
            self.save()
        finally:
            self._db.close()


def scores_beside(path: Path) -> Path:
    """Where the scores of a source's answers are kept: ``samples.scores.sqlite``."""
    return path.with_name(f"{path.name.removesuffix('.sqlite')}.scores.sqlite")


def score_key(question: Question, candidate: Candidate) -> ScoreKey:
    """Under what a candidate's score is kept."""
    asked = [question.answer, question.metadata, candidate.answer_text]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    return ScoreKey(question.id, candidate.index, digest)


def needs_check(question: Question, candidate: Candidate) -> bool:
    """Whether a candidate has an answer of which nobody said whether it is right."""
    return candidate.correct is None and candidate.finished and bool(candidate.answer_text)


def verify(
    sources: Sequence[tuple[Source, ScoreCache]],
    questions: Iterable[Question],
    total: int,
    workers: int | None,
    timeout_s: float,
    progress: Progress = lambda *_: None,
    step: str = "checking answers",
) -> int:
    """Score every candidate's answer that is not in the caches yet, and say how many those were.

    Args:
        sources: where candidates are, and their scores.
        questions: whose candidates; ``total`` of them.
        workers: processes; by default one for each processor.
        timeout_s: processor time for one answer, in seconds.
        progress: called with ``step``, how many questions are done, and ``total``.
    """

    def unknown() -> Iterator[tuple[tuple[ScoreCache, ScoreKey], Question, str]]:
        for done, question in enumerate(questions):
            progress(step, done, total)
            for source, cache in sources:
                for candidate in source.candidates(question.id):
                    key = score_key(question, candidate)
                    if needs_check(question, candidate) and cache.get(key) is None:
                        yield (cache, key), question, candidate.answer_text

    checked = 0
    try:
        with ScoringPool(workers, timeout_s) as pool:
            for (cache, key), scored in pool.check_all(unknown()):
                cache.put(key, scored)
                checked += scored.note != NO_REFERENCE
    finally:
        for _, cache in sources:
            cache.save()
    progress(step, total, total)
    return checked
