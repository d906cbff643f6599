"""One training example: a question, the paths thought along, and the summary that reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.errors import UsageError


@dataclass(frozen=True)
class PathText:
    """One path, without its control tokens."""

    text: str
    learn: bool = True
    """Whether the loss covers it; flawed paths are there to be read, not to be imitated."""


@dataclass(frozen=True)
class Example:
    """What JSONL holds, a line each: ``{"question", "paths": [{"text", "learn"}], "summary"}``."""

    question: str
    paths: tuple[PathText, ...]
    summary: str | None = None
    """None trains the paths alone."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str = "example") -> Example:
        """Parse and check one JSON object.

        Raises:
            UsageError: a field is missing or of the wrong type; the message begins with ``where``.
        """
        question, paths, summary = raw.get("question"), raw.get("paths"), raw.get("summary")
        if not isinstance(question, str) or not question.strip():
            raise UsageError(f"{where}: 'question' should be a non-empty string")
        if not isinstance(paths, list) or not paths:
            raise UsageError(f"{where}: 'paths' should be a non-empty list")
        if summary is not None and not isinstance(summary, str):
            raise UsageError(f"{where}: 'summary' should be a string, or be left out")
        parsed = []
        for i, path in enumerate(paths):
            path = {"text": path} if isinstance(path, str) else path
            if not isinstance(path, dict) or not isinstance(path.get("text"), str):
                raise UsageError(f"{where}: paths[{i}] should be a string or have a 'text'")
            parsed.append(PathText(path["text"], bool(path.get("learn", True))))
        return cls(question, tuple(parsed), summary)


def read_examples(file: Path) -> Iterator[Example]:
    """Read a JSONL file of examples.

    Raises:
        UsageError: the file is missing, or a line is no valid example; names file and line.
    """
    if not file.is_file():
        raise UsageError(f"data file {file} does not exist")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                raw = json.loads(line.decode("utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise UsageError(f"{file}:{number}: not valid JSON: {error}") from error
            if not isinstance(raw, dict):
                raise UsageError(f"{file}:{number}: should be a JSON object")
            yield Example.from_dict(raw, f"{file}:{number}")
