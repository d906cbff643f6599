"""The store of a teacher's samples: one SQLite file that a killed job goes on from.

A store holds the questions, the settings that all samples have in common, and one row for each
(question, index) that arrived. Each sample is a transaction of its own, so whatever was added stays
added, whenever the process is killed; :meth:`SampleStore.missing` then says what is still to ask.

The file is in WAL mode: others may read it while a job writes. ``synchronous=FULL`` makes each
commit wait for the disk. WAL with ``NORMAL`` would survive SIGKILL too, but may lose the last
samples when the machine loses power; a sample costs seconds of a model's time, so a few
milliseconds to keep it are well spent. WAL needs a local disk: sample to one, copy or merge
afterwards.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.sqlite_file import FileKind, SqliteFile, claim, release

_FILE = FileKind(
    "a store of samples",
    0x70617261,  # "para"
    1,
    (
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """CREATE TABLE questions (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            question TEXT NOT NULL
        )""",
        """CREATE TABLE samples (
            question_id TEXT NOT NULL REFERENCES questions (id),
            "index" INTEGER NOT NULL CHECK ("index" >= 0),
            reasoning TEXT NOT NULL,
            answer TEXT NOT NULL,
            finish_reason TEXT NOT NULL,
            model TEXT NOT NULL,
            endpoint TEXT NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            seconds REAL NOT NULL,
            seed INTEGER,
            UNIQUE (question_id, "index")
        )""",
        """CREATE TABLE failures (
            question_id TEXT NOT NULL REFERENCES questions (id),
            "index" INTEGER NOT NULL,
            message TEXT NOT NULL,
            UNIQUE (question_id, "index")
        )""",
    ),
)


@dataclass(frozen=True)
class Sample:
    """One path that a teacher thought along."""

    question_id: str
    index: int
    """Which of the question's paths, from 0."""
    reasoning: str
    """What was thought; empty where the teacher does not tell it from the answer."""
    answer: str
    """What was said after it; empty for a path of our own engine, whose summary is not wanted."""
    finish_reason: str
    """``stop``: it ended by itself; ``length``: out of tokens; else the endpoint's own word."""
    model: str
    endpoint: str
    """The endpoint's address, or the folder of the engine's model."""
    prompt_tokens: int
    completion_tokens: int
    """Reasoning and answer together, as the teacher counts them."""
    seconds: float
    """From the request to its answer, waiting for retries included."""
    seed: int | None


@dataclass(frozen=True)
class Failure:
    """A path that was given up: the teacher refused the question, or could not answer it."""

    question_id: str
    index: int
    message: str


@dataclass(frozen=True)
class SamplingSettings:
    """What all samples of a store have in common. A job with others is refused.

    Not in here, so free to change from one run to the next: endpoints' addresses, keys,
    concurrency, timeouts, prices and limits on cost. ``paths`` alone may grow.
    """

    models: tuple[str, ...]
    paths: int = 8
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int | None = None
    """None leaves it to the endpoint."""
    system_prompt: str | None = None
    prompt: str = "{question}"
    """What the teacher is asked; ``{question}`` stands for the question's text."""
    seed: int | None = 0
    """Each path's seed follows from it; None sends none."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of the request's body."""
    shard: str | None = None
    """Which share of the questions, as in ``3/16``."""

    def __post_init__(self) -> None:
        checks = (
            (bool(self.models) and all(self.models), "models", "at least one name"),
            (self.paths >= 1, "paths", "a whole number from 1"),
            (0 <= self.temperature < float("inf"), "temperature", "0 or more, and finite"),
            (0 < self.top_p <= 1, "top_p", "above 0, at most 1"),
            (self.max_tokens is None or self.max_tokens >= 1, "max_tokens", "1 or more"),
            ("{question}" in self.prompt, "prompt", "a text with {question} in it"),
            (self.seed is None or self.seed >= 0, "seed", "a whole number from 0"),
        )
        for good, name, allowed in checks:
            if not good:
                raise UsageError(f"{name} should be {allowed}; got {getattr(self, name)!r}")

    def differences(self, now: SamplingSettings) -> list[str]:
        """Where ``now`` differs, in words."""
        return [
            f"{name}: {before!r} there, {value!r} now"
            for name, value in dataclasses.asdict(now).items()
            if (before := getattr(self, name)) != value
        ]


class SampleStore:
    """A store that exists; :meth:`begin` makes one, or goes on with one.

    Use it as a context manager. One process may add samples at a time, any number may read.

    Raises:
        UsageError: there is no such file, or it is no store of samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(
                f"there is no store of samples at {self.path}; `parathinker data sample` makes one"
            )
        self._claim: int | None = None
        self._file = SqliteFile(self.path, _FILE)
        if not self._file.holds_tables:
            self._file.close()
            raise self._nothing_yet()

    @classmethod
    def begin(
        cls,
        path: str | Path,
        settings: SamplingSettings,
        questions: Iterable[Question],
        *,
        places: Iterable[int] | None = None,
        complete: bool = True,
    ) -> SampleStore:
        """A store to add to: a new one, or the one that is there, if it is of the same job.

        Questions that the store does not have yet are added behind the others. Of one that it has,
        everything but its text (reference answer, source, metadata) is brought up to date.

        Args:
            places: of a shard's questions among all, one for each, in rising order: what shards are
                merged by. By default they are counted.
            complete: ``questions`` are all that there should be; otherwise the store may have more.

        Raises:
            UsageError: other settings; a question with another text; a question of the store's
                that ``questions`` lacks; no store; a job that adds to it right now.
        """
        path = Path(path)
        lock = claim(path)
        try:
            file = SqliteFile(path, _FILE)
            if not file.holds_tables:
                file.create_tables()
            file.close()
            store = cls(path)
        except BaseException:
            release(path, lock)
            raise
        store._claim = lock
        try:
            with store._file.transaction():
                store._agree_on(settings)
                store._take_questions(questions, places or itertools.count(), complete)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file; not needed for samples to be safe."""
        self._file.close()
        if self._claim is not None:
            release(self.path, self._claim)
            self._claim = None

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settings(self) -> SamplingSettings:
        """What all samples have in common."""
        rows = self._file.execute("SELECT name, value FROM settings")
        raw = {name: json.loads(value) for name, value in rows}
        if not raw:
            raise self._nothing_yet()
        raw["models"] = tuple(raw["models"])
        return SamplingSettings(**raw)

    def questions(self) -> Iterator[Question]:
        """All questions, in the order they came in."""
        return (question for _, question in self.placed_questions())

    def placed_questions(self) -> Iterator[tuple[int, Question]]:
        """All questions with their places, which rise; a shard has only some of them."""
        for place, raw in self._file.execute(
            "SELECT position, question FROM questions ORDER BY position"
        ):
            yield place, Question.from_dict(json.loads(raw))

    def samples(self, question_id: str | None = None) -> Iterator[Sample]:
        """The samples of one question or of all, in the order of questions and indexes."""
        columns = ", ".join(f'samples."{f.name}"' for f in dataclasses.fields(Sample))
        source = "samples JOIN questions ON id = question_id"
        where, values = ("", ()) if question_id is None else ("WHERE id = ?", (question_id,))
        for row in self._file.execute(
            f'SELECT {columns} FROM {source} {where} ORDER BY position, "index"', values
        ):
            yield Sample(*row)

    def failures(self) -> Iterator[Failure]:
        """What was given up, and why."""
        for row in self._file.execute(
            'SELECT question_id, failures."index", message FROM failures '
            'JOIN questions ON id = question_id ORDER BY position, "index"'
        ):
            yield Failure(*row)

    def missing(self, paths: int) -> Iterator[tuple[Question, int]]:
        """What is still to ask for so many paths a question; what failed is left out.

        A question's paths come together, so that an endpoint which keeps prompts can reuse them.
        Samples may be added while this is read.
        """
        last = -1
        while True:
            page = self._file.execute(
                "SELECT position, question FROM questions WHERE position > ? "
                "ORDER BY position LIMIT 100",
                (last,),
            ).fetchall()
            if not page:
                return
            last = page[-1][0]
            for _, raw in page:
                question = Question.from_dict(json.loads(raw))
                settled = self._file.execute(
                    'SELECT "index" FROM samples WHERE question_id = ? '
                    'UNION SELECT "index" FROM failures WHERE question_id = ?',
                    (question.id, question.id),
                ).fetchall()
                done = {index for (index,) in settled}
                yield from ((question, index) for index in range(paths) if index not in done)

    def count(self, what: str, paths: int | None = None) -> int:
        """How many ``questions``, ``samples`` or ``failures``; with ``paths``, below that index."""
        assert what in ("questions", "samples", "failures")
        where = "" if paths is None else f'WHERE "index" < {int(paths)}'
        return int(self._file.execute(f"SELECT count(*) FROM {what} {where}").fetchone()[0])

    def tokens(self) -> tuple[int, int]:
        """Tokens in and out of all samples."""
        sums = "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)"
        prompt, completion = self._file.execute(f"SELECT {sums} FROM samples").fetchone()
        return int(prompt), int(completion)

    def add(self, *samples: Sample) -> int:
        """Keep samples, all or none, and say how many were new; the first of an index stays.

        Raises:
            UsageError: a sample of a question that the store does not have.
            ParaThinkerError: the file cannot be written, such as on a full disk.
        """
        columns = [f.name for f in dataclasses.fields(Sample)]
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO samples ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        new = 0
        with self._file.transaction():
            for sample in samples:
                row = tuple(getattr(sample, name) for name in columns)
                new += self._file.execute(insert, row).rowcount
                self._file.execute(
                    'DELETE FROM failures WHERE question_id = ? AND "index" = ?', row[:2]
                )
        return new

    def add_failures(self, *failures: Failure) -> None:
        """Note what is given up; it is not missing any more. What has a sample is left alone."""
        with self._file.transaction():
            for one in failures:
                self._file.execute(
                    "INSERT OR REPLACE INTO failures SELECT ?1, ?2, ?3 WHERE NOT EXISTS "
                    '(SELECT 1 FROM samples WHERE question_id = ?1 AND "index" = ?2)',
                    (one.question_id, one.index, one.message),
                )

    def forget_failures(self) -> int:
        """Make all that failed missing again, and say how much it was."""
        with self._file.transaction():
            return self._file.execute("DELETE FROM failures").rowcount

    def _nothing_yet(self) -> UsageError:
        return UsageError(f"{self.path} holds no samples yet; `parathinker data sample` adds some")

    def _agree_on(self, settings: SamplingSettings) -> None:
        """Store the settings, or compare with those that are there."""
        if self._file.execute("SELECT 1 FROM settings").fetchone():
            before = self.settings
            grown = max(before.paths, settings.paths)
            differences = dataclasses.replace(before, paths=grown).differences(settings)
            if differences:
                hint = " (paths may grow, not shrink)" if settings.paths < before.paths else ""
                raise UsageError(
                    f"{self.path} holds samples made with other settings: "
                    f"{'; '.join(before.differences(settings))}{hint}. Use the same, or another "
                    "output file"
                )
        for name, value in dataclasses.asdict(settings).items():
            self._file.execute(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value))
            )

    def _take_questions(
        self, questions: Iterable[Question], places: Iterable[int], complete: bool
    ) -> None:
        before = {
            question_id: (position, raw)
            for question_id, position, raw in self._file.execute(
                "SELECT id, position, question FROM questions"
            )
        }
        seen: set[str] = set()
        position = max((place for place, _ in before.values()), default=-1)
        for question, place in zip(questions, places, strict=False):
            if question.id in seen:
                continue
            seen.add(question.id)
            raw = json.dumps(question.to_dict())
            if question.id not in before:
                position = max(position + 1, place)
                self._file.execute(
                    "INSERT INTO questions VALUES (?, ?, ?)", (position, question.id, raw)
                )
            elif raw != before[question.id][1]:
                if json.loads(before[question.id][1])["question"] != question.question:
                    raise UsageError(
                        f"question {question.id} has another text in {self.path}; "
                        "use another output file"
                    )
                self._file.execute(
                    "UPDATE questions SET question = ? WHERE id = ?", (raw, question.id)
                )
        gone = [question_id for question_id in before if question_id not in seen]
        if gone and complete:
            raise UsageError(
                f"{self.path} holds samples of other questions: {len(gone)} of its {len(before)} "
                f"are not among those given now, such as {gone[0]}. Give the same questions, or "
                "more, or use another output file"
            )
