"""A server in a process of its own, on a free loopback port, that is gone when its block ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN_S = 120


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    url: str
    pid: int

    def resident_mib(self) -> float:
        """Memory that it holds; 0 where the system does not tell."""
        status = Path(f"/proc/{self.pid}/statm")
        if not status.is_file():
            return 0.0
        return int(status.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def served(model: str, *options: str) -> Iterator[Served]:
    """`parathinker serve`, ready.

    Raises:
        RuntimeError: it did not get ready; its log is the message.
    """
    command = [sys.executable, "-m", "parathinker", "serve", "--port", "0", "--model", model]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, *options], stderr=log)
        try:
            yield Served(_wait(process, log.fileno()), process.pid)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], log: int) -> str:
    url = ""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        text = os.pread(log, 1 << 20, 0).decode(errors="replace")
        for line in text.splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                told = json.loads(line)
                url = told.get("url", url)
                if told["message"] == "ready":
                    return url
        time.sleep(0.02)
    raise RuntimeError(os.pread(log, 1 << 20, 0).decode(errors="replace"))
