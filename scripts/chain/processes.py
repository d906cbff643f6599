"""Commands as a user gives them, in processes of their own, and killing them as a crash would."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.ledger import ChainError

LOOK_S = 0.02
"""How often a command that is to be killed is looked at."""
ORPHANS_S = 15.0
"""How long worker processes may take to notice that the process they work for was killed."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    killed: bool
    orphans: bool
    """Whether processes that it had started outlived it for longer than ``ORPHANS_S``."""
    output: str
    """What it wrote to standard output, this time."""


class Parathinker:
    """The ``parathinker`` command; what it writes goes to ``NAME.out`` and ``NAME.log``.

    Args:
        logs: the folder for these.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)

    def __call__(
        self, name: str, *words: str | Path, kill_when: Callable[[], bool] | None = None
    ) -> Ended:
        """Run it to its end, or SIGKILL it as soon as ``kill_when`` says so.

        Raises:
            ChainError: it failed, or was done before it could be killed, or left processes behind.
        """
        command = [sys.executable, "-m", "parathinker", *map(str, words)]
        ended = run(command, self._logs / f"{name}.out", self._logs / f"{name}.log", kill_when)
        if kill_when is not None and not ended.killed:
            raise ChainError(f"{name} was done before it could be killed; take more questions")
        if ended.orphans:
            raise ChainError(f"{name} left worker processes behind when it was killed")
        return ended


def run(
    command: Sequence[str], out: Path, log: Path, kill_when: Callable[[], bool] | None = None
) -> Ended:
    """Run a command in a session of its own; its output is appended to two files.

    Only the process itself is killed, as the kernel does when memory runs out: that those it
    started end, too, is its own business, and looked at here.

    Raises:
        ChainError: it failed.
    """
    with out.open("ab") as output, log.open("ab") as errors:
        begin = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        killed = orphans = False
        try:
            while process.poll() is None:
                if kill_when is None:
                    process.wait()
                elif kill_when():
                    process.kill()
                    process.wait()
                    killed = process.returncode == -signal.SIGKILL
                    orphans = not _group_ends(process, ORPHANS_S)
                else:
                    time.sleep(LOOK_S)
        finally:
            stop_group(process)
    if process.returncode and not killed:
        raise ChainError(
            f"`{' '.join(command)}` ended with code {process.returncode}: {last_line(log)} "
            f"(all of it: {log})"
        )
    written = out.read_bytes()[begin:].decode("utf-8", "replace")
    return Ended(killed, orphans, written)


def stop_group(process: subprocess.Popen[bytes], patience_s: float = 15.0) -> None:
    """End a process that leads a session, and all that it started: asked first, then killed."""
    for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if _group_ends(process, patience):
            return


def die_with_parent() -> None:
    """For a child before it starts: SIGTERM if the chain itself is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line.strip("╰╯─│ ")), "no output")


def _group_ends(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Whether nobody of the session that a process leads is left after a while."""
    deadline = time.monotonic() + patience_s
    while True:
        process.poll()  # one that ended is there until somebody asks
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
