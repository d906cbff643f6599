"""Folders that take a while to make, kept in the user's cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """``$PARATHINKER_CACHE``, by default ``parathinker`` where this user's caches lie."""
    given = os.environ.get("PARATHINKER_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parathinker"


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder; if it is not there, ``make`` makes it at the path that it is given.

    Nobody ever sees half of it, nor does a process that is killed leave half of it behind under
    this name.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "made"
        make(made)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder
