"""The one schema of training data: questions, and examples of parallel thinking.

A **question** is a line of JSONL::

    {"id": "f0c1…", "question": "What is 6 * 7?", "answer": "42", "source": "mine", "metadata": {}}

============  ==========================================================================
``id``        16 hex digits of the question's text (:func:`question_id`); may be left out
``question``  the text that is asked
``answer``    the reference answer; null where nobody knows it
``source``    where the question is from
``metadata``  what the task's own scorer needs, as JSON
============  ==========================================================================

An **example** is a line of JSONL or a row of Parquet, with the same columns::

    {"question": "What is 6 * 7?", "paths": [{"text": "6 * 7 = 42", "learn": true,
     "answer": "42", "correct": true}, …], "summary": "It is 42.", "id": "f0c1…",
     "answer": "42", "source": "mine", "split": "train"}

============  ==========================================================================
``question``  as above
``paths``     what was thought, path by path, without control tokens: a list of structs of
              ``text``; ``learn`` (whether the loss covers the path: flawed ones are there
              to be read by the summary, not to be imitated; true if left out); ``answer``
              (what the path concludes); ``correct`` (whether that is right); ``thought_id``
              (of its control token, if that matters); ``given`` (how many characters at its
              beginning are there to be gone on with, not to be learned; 0 if left out). A path
              may also be just its text.
``summary``   what is answered after reading all paths; null trains the paths alone
``readings``  where the summary is to be learned from parts of the paths: lists of indexes,
              such as ``[[0, 2], [1, 3]]``; empty for one summary of all
``id``        as above
``answer``    as above
``source``    as above
``split``     ``train``, ``validation`` or ``test``
============  ==========================================================================

Only ``question`` and ``paths`` have to be there. Columns of other names are passed over. Texts are
valid Unicode. A **built dataset** is a folder with a file for each split, ``train.parquet``,
``validation.parquet``, …; what is read of data in other people's layout is in
:mod:`parathinker.data.released`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from parathinker.errors import UsageError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Question:
    """A question to ask a teacher, and all that is needed to score what it answers."""

    id: str
    question: str
    answer: str | None = None
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "question") -> Question:
        """Parse and check one JSON object; an ``id`` left out is worked out.

        Raises:
            UsageError: a field is missing or of the wrong type; the message begins with ``where``.
        """
        question = _text(raw, "question", where)
        metadata = raw.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise UsageError(f"{where}: 'metadata' should be an object, or be left out")
        return cls(
            id=_optional_text(raw, "id", where) or question_id(question),
            question=question,
            answer=_optional_text(raw, "answer", where),
            source=_optional_text(raw, "source", where) or "",
            metadata=metadata or {},
        )

    def to_dict(self) -> dict[str, Any]:
        """What a line of JSONL holds."""
        return {
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "source": self.source,
            "metadata": self.metadata,
        }


@dataclass(frozen=True)
class PathText:
    """One path, without its control tokens."""

    text: str
    learn: bool = True
    """Whether the loss covers it; flawed paths are there to be read, not to be imitated."""
    answer: str | None = None
    """What the path concludes, where that is known."""
    correct: bool | None = None
    """Whether its answer is right; None where nobody checked."""
    thought_id: int | None = None
    """Of the control token that opens it, counted from 1; None has one drawn. Set it where the id
    decides how a path goes about the question."""
    given: int = 0
    """How many characters at its beginning the loss leaves out: they are there to be gone on with.
    Behind them a new token begins."""


@dataclass(frozen=True)
class Example:
    """One training example: a question, the paths thought along, the summary that reads them."""

    question: str
    paths: tuple[PathText, ...]
    summary: str | None = None
    """None trains the paths alone."""
    id: str = ""
    answer: str | None = None
    source: str = ""
    split: str = "train"
    readings: tuple[tuple[int, ...], ...] = ()
    """Which paths the summary reads, as indexes, one summary for each: so one set of paths can be
    read in many ways. Left empty, one summary reads them all."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "example") -> Example:
        """Parse and check one JSON object or row.

        Raises:
            UsageError: a field is missing or of the wrong type; the message begins with ``where``.
        """
        question, paths = _text(raw, "question", where), raw.get("paths")
        if not isinstance(paths, list) or not paths:
            raise UsageError(f"{where}: 'paths' should be a non-empty list")
        given_id = _optional_text(raw, "id", where)
        return cls(
            question=question,
            paths=tuple(_path(path, f"{where}: paths[{i}]") for i, path in enumerate(paths)),
            summary=_optional_text(raw, "summary", where),
            readings=_readings(raw.get("readings"), len(paths), where),
            id=question_id(question) if given_id is None else given_id,
            answer=_optional_text(raw, "answer", where),
            source=_optional_text(raw, "source", where) or "",
            split=_optional_text(raw, "split", where) or "train",
        )

    def to_dict(self) -> dict[str, Any]:
        """What a line of JSONL or a row holds."""
        return {
            "question": self.question,
            "paths": [asdict(path) for path in self.paths],
            "summary": self.summary,
            "readings": [list(reading) for reading in self.readings],
            "id": self.id,
            "answer": self.answer,
            "source": self.source,
            "split": self.split,
        }


def normalise(question: str) -> str:
    """A question's text as two that differ in looks only come out the same."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def question_id(question: str) -> str:
    """The name of a question, which follows from its text: the same in every source."""
    text = normalise(question).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def read_questions(path: str | Path) -> Iterator[Question]:
    """Read a JSONL file of questions.

    Raises:
        UsageError: the file is missing, or a line is no valid question; names file and line.
    """
    from parathinker.data.files import read_rows

    for where, row in read_rows(Path(path), (".jsonl",)):
        yield Question.from_dict(row, where)


def write_questions(path: str | Path, questions: Iterable[Question]) -> int:
    """Write a JSONL file of questions, and return how many. The file is there whole or not at all.

    Raises:
        UsageError: a question's metadata is no JSON.
    """
    from parathinker.data.files import write_jsonl

    return write_jsonl(Path(path), (question.to_dict() for question in questions))


def read_examples(
    path: str | Path, split: str | None = None, tokenizer: str | Path | None = None
) -> Iterator[Example]:
    """Read examples: a .jsonl, .json or .parquet file, or the folder of a built dataset.

    The released ParaThinker data is read too (:mod:`parathinker.data.released`).

    Args:
        path: the file or folder.
        split: only examples of this split; by default those of all.
        tokenizer: for rows of token ids, the folder of the tokenizer they were made with, if it
            does not lie beside them.

    Raises:
        UsageError: it is missing, or a line or row is no valid example; names file and line.
        MissingExtraError: Parquet needs the ``data`` or the ``train`` extra.
    """
    from parathinker.data.files import read_rows, split_files
    from parathinker.data.released import find_decoder, from_released

    path = Path(path)
    for file, file_split in split_files(path, SPLITS) if path.is_dir() else [(path, None)]:
        if split is not None and file_split not in (None, split):
            continue
        decoder = cache(partial(find_decoder, file, tokenizer))
        for where, row in read_rows(file):
            raw: dict[str, Any] | None = row
            if "question" not in row or "paths" not in row:
                raw = from_released(row, where, decoder)
            if raw is None:
                raise UsageError(
                    f"{where}: an example has 'question' and 'paths', and this is in no other "
                    f"layout that is known: it has {', '.join(map(repr, row)) or 'nothing'}"
                )
            if file_split is not None and raw.get("split") is None:
                raw = {**raw, "split": file_split}
            example = Example.from_dict(raw, where)
            if split is None or example.split == split:
                yield example


def write_examples(path: str | Path, examples: Iterable[Example]) -> int:
    """Write examples as JSONL or Parquet, by the suffix, and return how many.

    A few are in memory at a time, and the file is there whole or not at all.

    Raises:
        UsageError: a suffix that is neither.
        MissingExtraError: Parquet needs the ``data`` or the ``train`` extra.
    """
    from parathinker.data.files import write_jsonl, write_parquet

    path = Path(path)
    rows = (example.to_dict() for example in examples)
    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    if path.suffix == ".parquet":
        return write_parquet(path, rows, _COLUMNS)
    raise UsageError(f"cannot write examples to {path}: its name should end in .jsonl or .parquet")


_PATH_COLUMNS = {
    "text": "string",
    "learn": "bool",
    "answer": "string",
    "correct": "bool",
    "thought_id": "int64",
    "given": "int64",
}
_COLUMNS: dict[str, Any] = {
    "question": "string",
    "paths": [_PATH_COLUMNS],
    "summary": "string",
    "readings": [["int64"]],
    "id": "string",
    "answer": "string",
    "source": "string",
    "split": "string",
}
"""The columns of Parquet: a type, or a list of structs."""


def _path(raw: Any, where: str) -> PathText:
    raw = {"text": raw} if isinstance(raw, str) else raw
    if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
        raise UsageError(f"{where} should be a string or have a 'text'")
    learn, correct = raw.get("learn"), raw.get("correct")
    for name, value in (("learn", learn), ("correct", correct)):
        if not isinstance(value, bool | None):
            raise UsageError(f"{where}: {name!r} should be true or false, or be left out")
    thought_id = raw.get("thought_id")
    if thought_id is not None and (type(thought_id) is not int or thought_id < 1):
        raise UsageError(f"{where}: 'thought_id' should be a number from 1 up, or be left out")
    given = raw.get("given")
    if given is not None and (type(given) is not int or not 0 <= given <= len(raw["text"])):
        raise UsageError(
            f"{where}: 'given' should be a number of the text's characters, or be left out"
        )
    return PathText(
        text=_valid(raw["text"], "text", where),
        learn=learn is not False,
        answer=_optional_text(raw, "answer", where),
        correct=correct,
        thought_id=thought_id,
        given=given or 0,
    )


def _readings(raw: Any, paths: int, where: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(raw, list | None) or not all(_is_reading(one, paths) for one in raw or ()):
        raise UsageError(
            f"{where}: 'readings' should list lists of indexes into the {paths} paths, each "
            "index once, or be left out"
        )
    return tuple(map(tuple, raw or ()))


def _is_reading(raw: Any, paths: int) -> bool:
    return (
        isinstance(raw, list)
        and all(type(i) is int and 0 <= i < paths for i in raw)
        and len(set(raw)) == len(raw) > 0
    )


def _text(raw: Mapping[str, Any], name: str, where: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {name!r} should be a non-empty string")
    return _valid(value, name, where)


def _optional_text(raw: Mapping[str, Any], name: str, where: str) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name!r} should be a string, or be left out")
    return _valid(value, name, where)


def _valid(text: str, name: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: {name!r} is no valid Unicode: {error}") from None
    return text
