"""A small terminal: runs the command line on a pty and keeps what its screen shows."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

# Control sequences that Rich writes: cursor moves, erasing, colours, showing and hiding the cursor.
_SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """What stands on a screen after some output; lines that scrolled away are kept too."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self._height = columns, lines
        self.history: list[str] = []
        self.widest = 0
        self.cursor_hidden = False
        self._rows = [""] * lines
        self._row = self._column = 0
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        """The visible lines."""
        return [line.rstrip() for line in self._rows]

    @property
    def text(self) -> str:
        """The visible lines as one text."""
        return "\n".join(self.lines)

    def write(self, output: str) -> None:
        """Take output; a control sequence may be split between calls."""
        output, self._rest = self._rest + output, ""
        index = 0
        while index < len(output):
            if output[index] == "\x1b":
                found = _SEQUENCE.match(output, index)
                if found is None:
                    self._rest = output[index:]
                    return
                self._control(*found.groups())
                index = found.end()
            else:
                self._put(output[index])
                index += 1

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
            if self._row == self._height:
                self.history.append(self._rows.pop(0).rstrip())
                self._rows.append("")
                self._row -= 1
        else:
            if self._column == self.columns:
                self._put("\r")
                self._put("\n")
            line = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1
            self.widest = max(self.widest, self._column)

    def _control(self, private: str, numbers: str, letter: str) -> None:
        if private:
            assert numbers == "25", f"unexpected private mode {numbers}"
            self.cursor_hidden = letter == "l"
        elif letter == "A":
            self._row -= int(numbers or 1)
            assert self._row >= 0, "the cursor went above the screen"
        elif letter == "K":
            assert numbers == "2"
            self._rows[self._row] = ""
        else:
            assert letter == "m", f"unexpected control sequence {letter}"


class TerminalRun:
    """One run of ``parathinker`` on a terminal of a given size."""

    def __init__(self, arguments: list[str], columns: int, lines: int) -> None:
        self.screen = Screen(columns, lines)
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {
            k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "parathinker", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, condition: Callable[[Screen], bool], seconds: float = 60) -> None:
        """Read until the screen is as wanted; fails if the run ends before."""
        end = time.monotonic() + seconds
        while not condition(self.screen):
            assert self._read(end), f"the run ended, and the screen shows:\n{self.screen.text}"

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def finish(self, seconds: float = 60) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + seconds
        while self._read(end):
            pass
        os.close(self._master)
        return self._process.wait(10)

    def _read(self, end: float) -> bool:
        left = end - time.monotonic()
        if left <= 0 or not select.select([self._master], [], [], left)[0]:
            self._process.kill()
            raise TimeoutError(f"the run takes too long; its screen shows:\n{self.screen.text}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux reports that the other end closed
            data = b""
        text = self._decoder.decode(data)
        self.output += text
        self.screen.write(text)
        return bool(data)
