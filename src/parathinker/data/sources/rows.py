"""Rows of a source, one at a time: a local file, a folder, or a data set on the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parathinker.data.files import read_rows
from parathinker.data.sources.layouts import NICKNAMES
from parathinker.errors import MissingExtraError, ParaThinkerError, UsageError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_SAVED = ("dataset_dict.json", "state.json")
"""Either is in a folder that ``Dataset.save_to_disk`` wrote."""
_ROWS_AT_A_TIME = 64

Wanted = Callable[[list[str]], list[str]]


def source_rows(
    source: str, subset: str | None = None, split: str = "train", wanted: Wanted | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A source's rows, each with the name of its place for errors.

    Args:
        source: a file, a folder, a nickname, or a hub id; what is local goes first.
        subset: the configuration, of a folder or a data set on the hub.
        split: the split, of the same.
        wanted: chooses among the columns, so that those which nobody reads are not fetched; only
            asked where the format allows it.

    Raises:
        UsageError: it is none of these, or has no such subset or split.
        ParaThinkerError: the hub did not give it.
        MissingExtraError: folders and the hub need an extra.
    """
    path = Path(source)
    if path.is_file():
        yield from read_rows(path)
        return
    if path.is_dir():
        rows = _open_saved(path, split) if _is_saved(path) else _open(source, subset, split, wanted)
    else:
        name = NICKNAMES.get(source, source)
        if not _HUB_ID.fullmatch(name) or path.suffix in (".jsonl", ".json", ".csv", ".parquet"):
            raise UsageError(
                f"unknown source {source!r}: no file or folder here, no hub id like 'owner/name', "
                f"not reasoning-gym:TASK, and none of {', '.join(NICKNAMES)}"
            )
        rows = _open(name, subset, split, wanted)
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield f"{source}, row {number}", row
    except ParaThinkerError:
        raise
    except Exception as error:  # of any kind that a network, a disk or a decoder can have
        raise ParaThinkerError(
            f"{source} cannot be read after row {number}: {_said(error)}"
        ) from error


def _open(name: str, subset: str | None, split: str, wanted: Wanted | None) -> Any:
    rows = _load(name, subset, split)
    if wanted is None or rows.features is None:
        return rows
    columns = wanted(list(rows.features))
    try:
        return _load(name, subset, split, columns=columns, batch_size=_ROWS_AT_A_TIME)
    except UsageError:  # a format whose columns lie together
        return rows


def _load(name: str, subset: str | None, split: str, **options: Any) -> Any:
    datasets = _datasets()
    try:
        return datasets.load_dataset(name, subset, split=split, streaming=True, **options)
    except ValueError as error:  # no such split or configuration; lists those that are there
        raise UsageError(f"{name}: {_said(error)}") from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        if Path(name).is_dir():
            raise UsageError(f"{name} is no folder of a data set: {_said(error)}") from error
        raise ParaThinkerError(
            f"{name!r} is no file or folder here, and the hub did not give it: {_said(error)}"
        ) from error


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _open_saved(folder: Path, split: str) -> Any:
    saved = _datasets().load_from_disk(str(folder))
    if not hasattr(saved, "keys"):
        return saved
    if split not in saved:
        raise UsageError(f"{folder} has no split {split!r}; it has {', '.join(saved)}")
    return saved[split]


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("reading data sets", "data") from error
    datasets.disable_progress_bars()
    return datasets


def _said(error: Exception) -> str:
    """The first line of what an error says: libraries append pages of advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
