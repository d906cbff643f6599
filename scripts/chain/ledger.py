"""What of a chain is done: a file that a chain which was broken off goes on from."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parathinker.errors import ParaThinkerError, UsageError


class ChainError(ParaThinkerError):
    """A step failed, or did not hold what the software promises."""


@dataclass
class Step:
    """A step that is under way or done."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    """What came of it, plain data for later steps and the report."""
    says: str = ""
    """The same for a person who watches, in one line."""
    seconds: float = 0.0


FILE = "chain.json"


def start_over(folder: Path) -> None:
    """Delete a chain's folder.

    Raises:
        UsageError: it holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise UsageError(f"{folder} holds no chain, so it is not deleted; delete it yourself")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make a chain's folder, and have it for oneself while the block runs.

    Raises:
        UsageError: another chain runs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another chain runs in {folder}") from None
        yield


class Ledger:
    """The steps that are done, in ``chain.json``.

    Raises:
        UsageError: the folder holds a chain with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._file = folder / FILE
        self.done: dict[str, Step] = {}
        if self._file.is_file():
            raw = json.loads(self._file.read_text("utf-8"))
            if raw["settings"] != settings:
                raise UsageError(
                    f"{folder} holds a chain with other settings: {raw['settings']} there, "
                    f"{settings} now; add --fresh to start over, or give another --output"
                )
            self.done = {one["name"]: Step(**one) for one in raw["steps"]}
        self._settings = settings

    def facts(self, name: str) -> dict[str, Any]:
        """What came of a step that is done."""
        return self.done[name].facts

    @contextmanager
    def step(self, name: str) -> Iterator[Step | None]:
        """A step to do, which is done once the block ends without an error; None if it is done."""
        if name in self.done:
            print(f"✓ {name}: done before. {self.done[name].says}", flush=True)
            yield None
            return
        print(f"▸ {name} …", flush=True)
        step, began = Step(name), time.monotonic()
        yield step
        step.seconds = round(time.monotonic() - began, 1)
        self.done[name] = step
        self._save()
        print(f"✓ {name}: {step.seconds:,.1f} s. {step.says}", flush=True)

    def _save(self) -> None:
        document = {
            "settings": self._settings,
            "steps": [vars(step) for step in self.done.values()],
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")
        fresh.replace(self._file)
