"""The SQLite file under a store of samples: its tables, transactions, and who may write."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parathinker.errors import ParaThinkerError, UsageError

APPLICATION_ID = 0x70617261  # "para"
"""Stands in the file's header and tells a store from any other SQLite file."""
VERSION = 1
BUSY_S = 30.0
"""How long to wait for another process that is just writing."""

_TABLES = (
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
)


class SampleFile:
    """An open file with the tables of a store.

    Raises:
        UsageError: it cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # mode=rw: never make a file where there is none.
        address = f"{path.absolute().as_uri()}?mode=rw"
        try:
            self._db = sqlite3.connect(address, timeout=BUSY_S, uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise UsageError(f"{path} cannot be opened: {error}") from error
        try:
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA synchronous = FULL")
            self.holds_tables = self._check()
        except sqlite3.Error as error:
            self._db.close()
            raise UsageError(f"{path} is not a store of samples: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _check(self) -> bool:
        """Whether it is a store; False for an empty database."""
        kind = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if kind == APPLICATION_ID:
            if version > VERSION:
                raise UsageError(f"{self.path} was made by a newer version of parathinker")
            return True
        if tables or kind:
            raise UsageError(f"{self.path} is not a store of samples, but another SQLite database")
        return False

    def create_tables(self) -> None:
        """Make an empty database a store, in one transaction: a kill in between leaves it empty."""
        self._db.execute("PRAGMA journal_mode = WAL")
        with self.transaction():
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            for table in _TABLES:
                self._db.execute(table)
        self.holds_tables = True

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Run one statement; it is a transaction of its own outside of :meth:`transaction`."""
        return self._db.execute(sql, tuple(map(_storable, values)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it is on the disk when the block ends, or nothing is.

        Raises:
            UsageError: what was written contradicts the tables.
            ParaThinkerError: the file cannot be written, such as on a full disk.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError as error:
            raise UsageError(f"{self.path} does not take this: {error}") from error
        except sqlite3.Error as error:
            raise ParaThinkerError(f"{self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file; not needed for what was written to be safe."""
        self._db.close()


def claim(path: Path) -> int:
    """Become the one writer of a store; ``release`` undoes it, or the end of the process.

    A file that is not there is made, empty. The lock is on a file of its own: SQLite's own locks
    are lost when another descriptor of the store is closed.

    Raises:
        UsageError: another process has it, or the folder cannot be written.
    """
    file = _lock_file(path)
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists():
                path.touch()
        except BlockingIOError:
            os.close(lock)
            raise UsageError(
                f"another process is adding samples to {path}; wait for it, or use another file"
            ) from None
        except OSError as error:
            os.close(lock)
            raise UsageError(f"{path} cannot be written: {error}") from error
        # Whoever had the lock before may have removed its file since it was opened here.
        if _is_same(file, lock):
            return lock
        os.close(lock)


def release(path: Path, lock: int) -> None:
    """Let others write."""
    _lock_file(path).unlink(missing_ok=True)
    os.close(lock)


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _is_same(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _storable(value: Any) -> Any:
    """Text that SQLite takes: half a surrogate pair, which JSON can bring, becomes ``�``."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
