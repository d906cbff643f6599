"""One SQLite file that a job keeps what it made in: its tables, transactions, and who may write."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.errors import ParaThinkerError, UsageError

BUSY_S = 30.0
"""How long to wait for another process that is just writing."""


@dataclass(frozen=True)
class FileKind:
    """What a file is for."""

    name: str
    """For people, as in "a store of samples"."""
    application_id: int
    """Stands in the file's header and tells it from any other SQLite file."""
    version: int
    tables: tuple[str, ...]
    """Statements that make them."""


class SqliteFile:
    """An open file of some kind.

    Raises:
        UsageError: there is none, or it is something else.
        ParaThinkerError: it cannot be opened, such as on a full disk.
    """

    def __init__(self, path: Path, kind: FileKind) -> None:
        self.path, self._kind = path, kind
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
        except sqlite3.OperationalError as error:
            # The machine's fault, not the file's: a full disk, a lock, a lack of rights.
            self._db.close()
            raise ParaThinkerError(f"{path} cannot be opened: {error}") from error
        except sqlite3.Error as error:
            self._db.close()
            raise UsageError(f"{path} is not {kind.name}: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _check(self) -> bool:
        """Whether it is of the kind; False for an empty database."""
        found = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found == self._kind.application_id:
            if version > self._kind.version:
                raise UsageError(f"{self.path} was made by a newer version of parathinker")
            return True
        if tables or found:
            raise UsageError(f"{self.path} is not {self._kind.name}, but another SQLite database")
        return False

    def create_tables(self) -> None:
        """Make an empty database one, in one transaction: a kill in between leaves it empty.

        Raises:
            ParaThinkerError: the file cannot be written, such as on a full disk.
        """
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise ParaThinkerError(f"{self.path} cannot be written: {error}") from error
        with self.transaction():
            self._db.execute(f"PRAGMA application_id = {self._kind.application_id}")
            self._db.execute(f"PRAGMA user_version = {self._kind.version}")
            for table in self._kind.tables:
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
    """Become the one writer of a file; ``release`` undoes it, or the end of the process.

    A file that is not there is made, empty. The lock is on a file of its own: SQLite's own locks
    are lost when another descriptor of the file is closed.

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
                f"another process is writing to {path}; wait for it, or use another file"
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
