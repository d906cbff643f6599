"""The file that a run keeps everything in, as it comes: generations, scores, outcomes.

Each generation is a transaction of its own, named by all that it follows from. A run that was
killed finds what it made, and makes only what is missing; another method finds the paths that the
first one sampled.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.evaluation.generations import Generation, Written, key_of
from parathinker.sqlite_file import FileKind, SqliteFile, claim, release

FILE = "run.sqlite"
ANSWER_KEPT = 4_000
"""Characters of an answer that are kept with its outcome."""
_SHOWN = 60
"""Characters of a question that an error shows."""
_KIND = FileKind(
    "a run of an evaluation",
    0x70746576,  # "ptev"
    1,
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """CREATE TABLE questions (
            benchmark TEXT NOT NULL,
            position INTEGER NOT NULL,
            id TEXT NOT NULL,
            question TEXT NOT NULL,
            UNIQUE (benchmark, id)
        )""",
        """CREATE TABLE generations (
            key TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            question_id TEXT NOT NULL,
            seconds REAL NOT NULL,
            segments BLOB NOT NULL
        )""",
        "CREATE TABLE scores (key TEXT PRIMARY KEY, score REAL NOT NULL, note TEXT NOT NULL)",
        """CREATE TABLE outcomes (
            benchmark TEXT NOT NULL,
            method TEXT NOT NULL,
            width INTEGER NOT NULL,
            replicate INTEGER NOT NULL,
            question_id TEXT NOT NULL,
            outcome TEXT NOT NULL,
            UNIQUE (benchmark, method, width, replicate, question_id)
        )""",
        """CREATE TABLE latencies (
            benchmark TEXT NOT NULL,
            method TEXT NOT NULL,
            width INTEGER NOT NULL,
            question_id TEXT NOT NULL,
            seconds REAL NOT NULL,
            UNIQUE (benchmark, method, width, question_id)
        )""",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What one method answered to one question, and what that took."""

    score: float
    """0 to 1; where answers tie, the mean over them."""
    answers: tuple[str, ...]
    """What was answered; several where they tie, none where nothing was found. Of long ones the
    end is kept; all of it is in the generations."""
    path_tokens: int
    """Generated in paths and chains."""
    summary_tokens: int
    depth: int
    """Tokens one after another: the longest path and the summary."""
    prefill_tokens: int = 0
    """Read again that had been written before, where a method has to."""
    note: str = ""
    """What there is to say, such as ``tie of 2``."""
    generations: tuple[str, ...] = ()
    """Names of what it was made from."""

    @property
    def tokens(self) -> int:
        """All that were generated."""
        return self.path_tokens + self.summary_tokens


@dataclass(frozen=True)
class Cell:
    """Where an outcome belongs."""

    benchmark: str
    method: str
    width: int
    replicate: int
    question_id: str


class RunStore:
    """An open run. Use it as a context manager.

    Args:
        folder: the run's; the file is made if it is not there and ``write`` is true.
        write: this process adds to it; one may at a time, any number may read.

    Raises:
        UsageError: nothing there to read, something else, or another process writes to it.
    """

    def __init__(self, folder: Path, write: bool = False) -> None:
        self.path = folder / FILE
        # What is made now: files, then the folders from the inside out.
        files = (self.path, *(folder / (FILE + more) for more in ("-wal", "-shm")))
        self._made = [path for path in (*files, folder, *folder.parents) if not path.exists()]
        self._noted = self.path not in self._made
        self._claim = claim(self.path) if write else None
        try:
            if not self.path.is_file():
                raise UsageError(f"{folder} holds no run of an evaluation ({FILE})")
            self._file = SqliteFile(self.path, _KIND)
            try:
                if not self._file.holds_tables:
                    if not write:
                        raise UsageError(f"{folder} holds no results yet")
                    self._file.create_tables()
            except BaseException:
                self._file.close()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close the file; not needed for what was written to be safe. A new one that nothing was
        noted in goes away again, with the folders that were made for it."""
        self._file.close()
        self._release()

    def _release(self) -> None:
        if self._claim is None:
            return
        unused = [] if self._noted else self._made
        # The files while nobody else may write them; the folders without the lock's file.
        for path in unused:
            if path.is_file():
                path.unlink()
        release(self.path, self._claim)
        self._claim = None
        for path in unused:
            with suppress(OSError):  # no folder, or somebody put something there meanwhile
                path.rmdir()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts about the run ---------------------------------------------------------------------

    def fact(self, name: str) -> Any:
        """What was noted under a name; None if nothing was."""
        row = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def note(self, name: str, value: Any) -> None:
        """Note something about the run."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def take_questions(self, benchmark: str, questions: tuple[Question, ...]) -> None:
        """Keep a benchmark's questions, so that a report can show them.

        Raises:
            UsageError: one was there before, under the same id, with another text or answer, or
                another one in its place: answers to it would go on counting.
        """
        self._check_places(benchmark, questions)
        before = {
            found.id: (other, found)
            for other, raw in self._file.execute("SELECT benchmark, question FROM questions")
            for found in [Question.from_dict(json.loads(raw))]
        }
        with self._file.transaction():
            for position, question in enumerate(questions):
                other, known = before.get(question.id, (benchmark, question))
                if _asked(known) != _asked(Question.from_dict(question.to_dict())):
                    raise UsageError(
                        f"benchmark {benchmark}: question {question.id} has another text or answer "
                        f"than in {other}, as this folder holds it; use another output folder"
                    )
                self._file.execute(
                    "INSERT OR REPLACE INTO questions VALUES (?, ?, ?, ?)",
                    (benchmark, position, question.id, json.dumps(question.to_dict())),
                )
        self._noted = True

    def _check_places(self, benchmark: str, questions: tuple[Question, ...]) -> None:
        rows = self._file.execute(
            "SELECT position, id, question FROM questions WHERE benchmark = ?", (benchmark,)
        )
        for position, known, raw in rows:
            if position < len(questions) and (now := questions[position]).id != known:
                raise UsageError(
                    f"benchmark {benchmark}: question {position + 1} is {_short(now.question)}, "
                    f"{now.id}, and this folder holds {_short(json.loads(raw)['question'])}, "
                    f"{known}, in its place. Put the questions back as they were, new ones behind "
                    "them, or use another output folder"
                )

    def questions(self, benchmark: str) -> list[Question]:
        """A benchmark's questions in their order."""
        rows = self._file.execute(
            "SELECT question FROM questions WHERE benchmark = ? ORDER BY position", (benchmark,)
        )
        return [Question.from_dict(json.loads(raw)) for (raw,) in rows]

    # -- what was made ---------------------------------------------------------------------------

    def generation(self, key: str) -> Generation | None:
        """What was made under a name."""
        row = self._file.execute(
            "SELECT seconds, segments FROM generations WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        segments = json.loads(zlib.decompress(row[1]))
        return Generation(key, tuple(Written.from_dict(raw) for raw in segments), row[0])

    def add_generation(self, made: Generation, kind: str, question_id: str) -> None:
        """Keep what was made, in place of less under the same name; it is on the disk when this
        returns."""
        raw = json.dumps([segment.to_dict() for segment in made.segments], ensure_ascii=False)
        packed = zlib.compress(raw.encode("utf-8", "replace"), 6)
        self._write(
            "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?, ?)",
            (made.key, kind, question_id, made.seconds, packed),
        )

    def score(self, question_id: str, text: str) -> float | None:
        """The score of a text, if it was found out before."""
        row = self._file.execute(
            "SELECT score FROM scores WHERE key = ?", (_score_key(question_id, text),)
        ).fetchone()
        return None if row is None else float(row[0])

    def add_score(self, question_id: str, text: str, score: float, note: str) -> None:
        """Keep a score."""
        values = _score_key(question_id, text), score, note
        self._write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", values)

    def unscored(self) -> dict[str, int]:
        """How many texts could not be scored, and so count as wrong, by what happened."""
        rows = self._file.execute(
            "SELECT note, count(*) FROM scores WHERE note != '' GROUP BY note ORDER BY note"
        )
        return dict(rows)

    def add_outcome(self, cell: Cell, outcome: Outcome) -> None:
        """Keep what a method answered."""
        ends = tuple(_end(answer) for answer in outcome.answers)
        raw = json.dumps(dataclasses.asdict(dataclasses.replace(outcome, answers=ends)))
        self._write(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?)",
            (*dataclasses.astuple(cell), raw),
        )

    def outcomes(self, benchmark: str | None = None) -> Iterator[tuple[Cell, Outcome]]:
        """All outcomes, or those of one benchmark."""
        where, values = ("", ()) if benchmark is None else ("WHERE benchmark = ?", (benchmark,))
        for *cell, raw in self._file.execute(
            "SELECT benchmark, method, width, replicate, question_id, outcome FROM outcomes "
            f"{where} ORDER BY benchmark, method, width, replicate, question_id",
            values,
        ):
            found = json.loads(raw)
            for name in ("answers", "generations"):
                found[name] = tuple(found[name])
            yield Cell(*cell), Outcome(**found)

    def has_outcome(self, cell: Cell) -> bool:
        """Whether a method has answered."""
        return (
            self._file.execute(
                "SELECT 1 FROM outcomes WHERE benchmark = ? AND method = ? AND width = ? "
                "AND replicate = ? AND question_id = ?",
                dataclasses.astuple(cell),
            ).fetchone()
            is not None
        )

    def add_latency(self, cell: Cell, seconds: float) -> None:
        """Keep how long one answer took, alone on the machine."""
        self._write(
            "INSERT OR REPLACE INTO latencies VALUES (?, ?, ?, ?, ?)",
            (cell.benchmark, cell.method, cell.width, cell.question_id, seconds),
        )

    def has_latency(self, cell: Cell) -> bool:
        """Whether one answer was timed."""
        return (
            self._file.execute(
                "SELECT 1 FROM latencies WHERE benchmark = ? AND method = ? AND width = ? "
                "AND question_id = ?",
                (cell.benchmark, cell.method, cell.width, cell.question_id),
            ).fetchone()
            is not None
        )

    def latencies(self) -> Iterator[tuple[str, str, int, float]]:
        """Benchmark, method, width and seconds of each answer that was timed."""
        yield from self._file.execute(
            "SELECT benchmark, method, width, seconds FROM latencies "
            "ORDER BY benchmark, method, width, question_id"
        )

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        """One change; it is on the disk when this returns.

        Raises:
            ParaThinkerError: the file cannot be written, such as on a full disk.
        """
        with self._file.transaction():
            self._file.execute(sql, values)
        self._noted = True


def _asked(question: Question) -> str:
    """What an answer to a question and its score follow from; as JSON, which has no tuples."""
    asked = question.question, question.answer, question.metadata.get("entry")
    return json.dumps(asked, sort_keys=True)


def _score_key(question_id: str, text: str) -> str:
    return key_of("score", question=question_id, text=text)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _SHOWN else f'"{line[:_SHOWN]}…"'


def _end(text: str) -> str:
    return text if len(text) <= ANSWER_KEPT else "…" + text[-ANSWER_KEPT:]
