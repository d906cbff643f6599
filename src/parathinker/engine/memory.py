"""How much memory the KV cache may take, and whether the machine has it to spare."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.engine.kv_pool import bytes_per_token
from parathinker.errors import UsageError
from parathinker.modeling.config import DecoderConfig

DEFAULT_SHARE = 0.25
"""Of a CPU's memory, or of what is free on an accelerator with room to spare for activations."""
RESERVE = 0.125
"""Of a CPU's memory: with less left, nothing new is taken for what may be needed again."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMINFO, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def kv_blocks(
    wanted: int | float | str | None,
    config: DecoderConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """Blocks of KV memory for ``kv_cache_memory``.

    Args:
        wanted: bytes; a text such as ``"2GiB"``; a share of memory between 0 and 1 as a float; None
            for the default.

    Raises:
        UsageError: it is none of these, or too little for a single block.
    """
    allowed = 'bytes, a size such as "2GiB", or a share of memory such as 0.25'
    size: float
    if wanted is None:
        size = DEFAULT_SHARE * memory_of(device)
    elif isinstance(wanted, str):
        found = _SIZE.fullmatch(wanted.strip())
        if not found:
            raise UsageError(f"kv_cache_memory should be {allowed}; got {wanted!r}")
        size = float(found[1]) * _UNITS[found[2].upper()]
        if "." in found[1] and not found[2]:
            return kv_blocks(float(found[1]), config, device, dtype)
    elif isinstance(wanted, float) and 0 < wanted <= 1:
        size = wanted * memory_of(device)
    elif isinstance(wanted, int) and not isinstance(wanted, bool):
        size = wanted
    else:
        raise UsageError(f"kv_cache_memory should be {allowed}; got {wanted!r}")
    block = BLOCK_TOKENS * bytes_per_token(config, dtype)
    if size < block:
        raise UsageError(
            f"kv_cache_memory {wanted!r} is {int(size)} bytes, and a block of {BLOCK_TOKENS} "
            f"tokens of this model takes {block}"
        )
    return int(size // block)


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has to give away."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _container_limit()
    return total if limit is None else min(total, limit)


def is_short(device: torch.device) -> bool:
    """Whether a CPU has less than ``RESERVE`` of its memory left; False where it does not say."""
    if device.type != "cpu" or not _MEMINFO.is_file():
        return False
    left = _read(_MEMINFO)["MemAvailable:"] * 2**10
    limit = _container_limit()
    if limit is not None:
        left = min(left, limit - _read(_CONTAINER / "memory.stat")["anon"])
    return left < RESERVE * memory_of(device)


def _container_limit() -> int | None:
    file = _CONTAINER / "memory.max"
    text = file.read_text("ascii").strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None


def _read(file: Path) -> dict[str, int]:
    """Lines of a name and a number, perhaps with a unit."""
    lines = (line.split() for line in file.read_text("ascii").splitlines())
    return {words[0]: int(words[1]) for words in lines}
