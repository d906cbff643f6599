"""How many processors there are to compute on."""

from __future__ import annotations

import os

_THREADS = "OMP_NUM_THREADS"


def usable_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """How many threads compute if nobody says: one for each processor.

    OMP_NUM_THREADS is heeded, as it is by PyTorch, so that several processes can share a machine.
    Of a list, which OpenMP has for nested teams, the first number counts; what is no positive
    number does not.
    """
    said = os.environ.get(_THREADS, "").split(",")[0].strip()
    return int(said) if said.isdecimal() and int(said) > 0 else usable_processors()
