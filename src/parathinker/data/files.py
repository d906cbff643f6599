"""Rows in files: JSONL, JSON, CSV, Parquet and Arrow, read and written a few at a time."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from parathinker.errors import MissingExtraError, UsageError

ROWS_AT_A_TIME = 64
"""Of Parquet; long paths make rows of some hundred kB."""

Row = dict[str, Any]


def read_rows(file: Path, suffixes: tuple[str, ...] | None = None) -> Iterator[tuple[str, Row]]:
    """A file's rows, each with the name of its place for errors: ``file:line``, ``file, row n``.

    Args:
        file: what to read; its suffix says what it is.
        suffixes: those that are taken; by default all that are known.

    Raises:
        UsageError: the file is missing, of another kind, or damaged.
        MissingExtraError: Parquet and Arrow need an extra.
    """
    if not file.is_file():
        raise UsageError(f"data file {file} does not exist")
    suffixes = suffixes or tuple(_READERS)
    if file.suffix not in suffixes:
        raise UsageError(f"cannot read {file}: its name should end in {' or '.join(suffixes)}")
    return _READERS[file.suffix](file)


def split_files(folder: Path, splits: tuple[str, ...]) -> list[tuple[Path, str]]:
    """The files of a dataset's folder, with the split of each.

    They are named ``train.parquet``, or in pieces ``train-00000-of-00002.parquet`` as on the hub,
    and lie in the folder or in its ``data``; or a folder for each split holds ``data-*.arrow``, as
    ``datasets`` saves them, one of which may be what is asked for.

    Raises:
        UsageError: there are none; says what is there.
    """
    for place in (folder, folder / "data"):
        found = []
        for split in splits:
            piece = re.compile(rf"{split}(-\d+-of-\d+)?")
            for suffix in (".parquet", ".jsonl", ".json"):
                files = sorted(f for f in place.glob(f"*{suffix}") if piece.fullmatch(f.stem))
                if files:
                    found += [(file, split) for file in files]
                    break
        if found:
            return found
    saved = [(file, s) for s in splits for file in sorted((folder / s).glob("data-*.arrow"))]
    name = folder.resolve().name
    saved += [(file, name if name in splits else "train") for file in folder.glob("data-*.arrow")]
    if saved:
        return saved
    there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) or "nothing"
    raise UsageError(
        f"{folder} is no built dataset: it should hold {splits[0]}.parquet or {splits[0]}.jsonl; "
        f"it holds {there}"
    )


def write_jsonl(file: Path, rows: Iterable[Row]) -> int:
    """Write a line for each row, and return how many."""
    count = 0
    with whole(file) as partial, partial.open("wb") as lines:
        for row in rows:
            lines.write(_json_line(row, file))
            count += 1
    return count


def write_parquet(file: Path, rows: Iterable[Row], columns: dict[str, Any]) -> int:
    """Write rows of these columns, and return how many.

    Args:
        file: what to write.
        rows: one dict a row, with all columns.
        columns: a type's name for each; a list of one for lists, a dict for structs.
    """
    try:
        import pyarrow
        import pyarrow.parquet
        from datasets import Features
    except ImportError as error:
        raise MissingExtraError("writing Parquet", "data") from error
    schema = Features(_features(columns)).arrow_schema
    source, count = iter(rows), 0
    with whole(file) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        while chunk := list(islice(source, ROWS_AT_A_TIME)):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema))
            count += len(chunk)
    return count


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``file`` when all went well, and goes away otherwise."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # its folder may be no folder
            partial.unlink(missing_ok=True)


def _read_jsonl(file: Path) -> Iterator[tuple[str, Row]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            if line.strip():
                yield where, _object(_parse(line, where), where)


def _read_json(file: Path) -> Iterator[tuple[str, Row]]:
    """A list of objects; some call JSONL so, too."""
    raw = file.read_bytes()
    if not raw.lstrip().startswith(b"["):
        yield from _read_jsonl(file)
        return
    for number, row in enumerate(_parse(raw, str(file)), 1):
        yield f"{file}, row {number}", _object(row, f"{file}, row {number}")


def _read_csv(file: Path) -> Iterator[tuple[str, Row]]:
    """Values stay the text they are: 007 and 0.50 may be answers."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    number = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines, strict=True), 1):
                yield f"{file}, row {number}", {k: v for k, v in row.items() if k is not None}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file}, row {number}: not valid CSV: {error}") from error


def _read_parquet(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "data") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{file}, after row {number}: not valid Parquet: {error}") from error


def _read_arrow(file: Path) -> Iterator[tuple[str, Row]]:
    """What ``Dataset.save_to_disk`` writes."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("reading Arrow files", "data") from error
    number = 0
    try:
        with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
            for batch in stream:
                for begin in range(0, batch.num_rows, ROWS_AT_A_TIME):
                    for row in batch.slice(begin, ROWS_AT_A_TIME).to_pylist():
                        number += 1
                        yield f"{file}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{file}, after row {number}: not valid Arrow: {error}") from error


_READERS = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}


def _parse(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not valid JSON: {error}") from error


def _object(raw: Any, where: str) -> Row:
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: should be a JSON object")
    return raw


def _json_line(row: Row, file: Path) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:
        name = row.get("id") or row.get("question")
        raise UsageError(f"cannot write {name!r} to {file}: {error}") from error


def _features(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns as ``datasets`` names them, so that it and the hub read the types as meant."""
    from datasets import Value

    def feature(column: Any) -> Any:
        if isinstance(column, list):
            return [feature(column[0])]
        return _features(column) if isinstance(column, dict) else Value(column)

    return {name: feature(column) for name, column in columns.items()}
