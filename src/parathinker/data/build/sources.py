"""What a dataset is built from: stores of a teacher's samples, and files of examples."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parathinker.data.samples import Sample, SampleStore
from parathinker.data.schema import Example, Question, question_id, read_examples

FINISHED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
"""What endpoints call an answer that ended by itself."""


@dataclass(frozen=True)
class Candidate:
    """A path that an example may get."""

    index: int
    """Which of its question's in its source."""
    text: str
    answer_text: str
    """What is scored: the text that gives the path's answer."""
    reply: str = ""
    """What was said after the path, where that is known."""
    said: str = ""
    """What was said at all, after a path or without one."""
    finished: bool = True
    learn: bool = True
    """False where the source says that it is only to be read."""
    correct: bool | None = None
    """What the source already says; None: to be checked."""
    thought_id: int | None = None
    """Of the control token that opened it; of a sample that of its index, as our engine has it."""
    given: int = 0
    """How many characters at its beginning are not to be learned."""


class Source(Protocol):
    """Questions, and candidates for each."""

    path: Path

    def questions(self) -> Iterator[Question]:
        """All of them, in order; an id comes once."""

    def candidates(self, question_id: str) -> list[Candidate]:
        """Those of one question, in order; empty if the source does not have it."""

    def close(self) -> None:
        """Close files."""


def open_sources(
    paths: Sequence[Path], path_text: str, tokenizer: str | None, closing: ExitStack
) -> list[Source]:
    """Open stores and files of examples, which ``closing`` closes.

    Args:
        paths: the files, or folders of examples.
        path_text: see :class:`~.settings.BuildSettings`.
        tokenizer: for examples in token ids without a tokenizer beside them.
        closing: closes what was opened.

    Raises:
        UsageError: a path is neither.
    """
    sources: list[Source] = []
    for path in paths:
        source: Source = (
            StoredSamples(path, path_text) if is_store(path) else ExampleFile(path, tokenizer)
        )
        closing.callback(source.close)
        sources.append(source)
    return sources


class StoredSamples:
    """A store of samples."""

    def __init__(self, path: Path, path_text: str) -> None:
        self.path = path
        self._store = SampleStore(path)
        self._path_text = path_text

    def questions(self) -> Iterator[Question]:
        return self._store.questions()

    def count(self) -> int:
        """How many questions there are."""
        return self._store.count("questions")

    def candidates(self, question_id: str) -> list[Candidate]:
        return [self._candidate(sample) for sample in self._store.samples(question_id)]

    def close(self) -> None:
        self._store.close()

    def _candidate(self, sample: Sample) -> Candidate:
        reasoning, answer = sample.reasoning.strip(), sample.answer.strip()
        text = reasoning or answer
        if self._path_text == "whole" and reasoning and answer:
            text = f"{reasoning}\n\n{answer}"
        return Candidate(
            sample.index,
            text,
            answer_text=answer or reasoning,
            reply=answer if reasoning else "",
            said=answer,
            finished=sample.finish_reason in FINISHED,
            thought_id=sample.index + 1,
        )


class ExampleFile:
    """A file of examples, or a built dataset; what it says about right and wrong is taken over.

    Examples are asked for by question, in any order, and may not fit into memory: they are copied
    into a temporary database.
    """

    def __init__(self, path: Path, tokenizer: str | None = None) -> None:
        self.path = path
        self._folder = tempfile.TemporaryDirectory(prefix="parathinker-")
        self._db = sqlite3.connect(str(Path(self._folder.name) / "examples.sqlite"))
        try:
            self._db.execute("CREATE TABLE examples (id TEXT NOT NULL, example TEXT NOT NULL)")
            self._db.executemany(
                "INSERT INTO examples VALUES (?, ?)",
                (
                    (one.id or question_id(one.question), json.dumps(one.to_dict()))
                    for one in read_examples(path, tokenizer=tokenizer)
                ),
            )
            self._db.execute("CREATE INDEX by_id ON examples (id)")
        except BaseException:
            self.close()
            raise

    def questions(self) -> Iterator[Question]:
        # With min() in it, SQLite takes the other columns from the row of the minimum.
        rows = self._db.execute(
            "SELECT id, example, min(rowid) FROM examples GROUP BY id ORDER BY 3"
        )
        for identifier, raw, _ in rows:
            one = Example.from_dict(json.loads(raw))
            yield Question(identifier, one.question, one.answer, one.source)

    def candidates(self, question_id: str) -> list[Candidate]:
        rows = self._db.execute(
            "SELECT example FROM examples WHERE id = ? ORDER BY rowid", (question_id,)
        )
        found: list[Candidate] = []
        for (raw,) in rows:
            example = Example.from_dict(json.loads(raw))
            for path in example.paths:
                bare = path.answer
                found.append(
                    Candidate(
                        len(found),
                        path.text,
                        answer_text=path.text if bare is None else f"\\boxed{{{bare}}}",
                        reply=example.summary or "",
                        learn=path.learn,
                        correct=path.correct,
                        thought_id=path.thought_id,
                        given=path.given,
                    )
                )
        return found

    def close(self) -> None:
        self._db.close()
        self._folder.cleanup()


def is_store(path: Path) -> bool:
    """Whether a path is, or by its name should be, a store of samples."""
    if not path.is_file():
        return path.suffix == ".sqlite"  # what is missing is better said as what it should be
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"
