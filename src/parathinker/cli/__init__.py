"""The ``parathinker`` command. This module is what the console script enters."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from parathinker.errors import ParaThinkerError, UsageError

FAILURE, USAGE, INTERRUPTED = 1, 2, 130
DEBUG_VARIABLE = "PARATHINKER_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done; 1: it failed; 2: it was asked for something that cannot be; 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that lacks a character should show "?" for it, not a traceback.
            stream.reconfigure(errors="replace")
    try:
        # Imported here so that Ctrl-C during the imports is a clean stop too.
        from parathinker.cli.app import app

        app(args=None if arguments is None else list(arguments), prog_name="parathinker")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED:
            _say("Stopped.")
        return _finish(code)
    except KeyboardInterrupt:
        _say("Stopped.")
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)
        return FAILURE
    except ParaThinkerError as error:
        _debug()
        _say(f"Error: {error}")
        return USAGE if isinstance(error, UsageError) else FAILURE
    except Exception as error:
        _debug()
        _say(
            f"Error: something unexpected went wrong: {type(error).__name__}: {error}\n"
            f"Set {DEBUG_VARIABLE}=1 to see where."
        )
        return FAILURE
    return _finish(0)


def _finish(code: int) -> int:
    """Flush what is left, so that a reader who is gone is noticed here and not at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        return FAILURE
    return code


def _say(message: str) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _silence(sys.stderr)


def _debug() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()


def _silence(stream: TextIO) -> None:
    """Send what is still in the stream's buffer nowhere: its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
