"""What processors there are to compute on."""

from __future__ import annotations

import os
from pathlib import Path

_THREADS = "OMP_NUM_THREADS"
_FACTS = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""What Linux calls the units, on x86 and on ARM."""


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


def processor_facts() -> dict[str, str]:
    """What Linux says of the last processor; empty where there is no Linux."""
    if not _FACTS.is_file():
        return {}
    pairs = (line.partition(":") for line in _FACTS.read_text("utf-8").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def has_bfloat16_units() -> bool | None:
    """Whether the processor multiplies bfloat16 itself; None if that cannot be told.

    Without such units PyTorch takes several times as long in bfloat16 as in float32.
    """
    facts = processor_facts()
    flags = facts.get("flags", facts.get("Features"))
    return None if flags is None else not _BFLOAT16.isdisjoint(flags.split())
