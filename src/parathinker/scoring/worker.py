"""The process that answers are scored in: one JSON line asks, two reply, the end of input ends it.

An answer is text that a model wrote, and checking it may take forever or all memory. So it happens
in a process of its own, which the system ends when it used up its time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from parathinker.scoring import rules

MEMORY_LIMIT = 4 << 30
"""Bytes of address space that a worker may take."""


def main() -> None:
    """Reply to the lines of standard input until it ends."""
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Ctrl-C goes to all processes of a terminal; whoever started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    for line in sys.stdin:
        request = json.loads(line)
        reply = _load(request)
        if reply is None:
            print(json.dumps({"begun": True}), file=replies, flush=True)
            reply = _score(request)
        print(json.dumps(reply), file=replies, flush=True)


def _load(request: dict[str, Any]) -> dict[str, Any] | None:
    """None when all is there."""
    try:
        rules.load(request["task"])
    except ImportError as error:
        return {"missing": str(error.name or error)}
    except rules.UnknownTaskError as error:
        return {"error": str(error)}
    return None


def _score(request: dict[str, Any]) -> dict[str, Any]:
    _begin_limit(request["timeout_s"])
    try:
        if request["task"] is None:
            score = rules.score_by_reference(request["reference"], request["text"])
        else:
            score = rules.score_by_task(request["task"], request["entry"], request["text"])
        return {"score": score, "note": ""}
    except Exception as error:  # of any kind: texts are arbitrary, and scorers not made for all
        return {"score": 0.0, "note": f"scorer failed: {type(error).__name__}"}
    finally:
        _begin_limit(0)


def _begin_limit(seconds: float) -> None:
    """Have the system end this process after so much computing; 0 calls it off.

    It is processor time: a busy machine makes no right answer wrong. Nothing catches the signal,
    so it also ends a process that is stuck in C code, or whose parent is gone.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
