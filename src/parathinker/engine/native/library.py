"""Finding, checking and loading the C++ library, and its interface as ctypes sees it.

The library is built with the package where there is a compiler, several times for different
processors; where it is missing, everything runs in PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

SWITCH = "PARATHINKER_NATIVE"
"""Environment variable: 0 switches the library off, the name of a build insists on that one."""
_ABI = 4
_BUILDS = ("generic", "avx2", "avx512")
"""Each runs wherever the next one does."""


class Config(ctypes.Structure):
    """``pt_config``."""

    _fields_ = (
        *((name, c_int32) for name in ("vocab", "hidden", "intermediate", "layers")),
        *((name, c_int32) for name in ("query_heads", "kv_heads", "head_dim", "int8")),
        ("norm_eps", c_float),
        ("embedding", c_void_p),
    )


class Batch(ctypes.Structure):
    """``pt_batch``."""

    _fields_ = (
        *((name, c_int64) for name in ("tokens", "rows", "reads")),
        *((name, c_void_p) for name in ("token_ids", "positions", "thought_ids", "slots")),
        *((name, c_void_p) for name in ("row_tokens", "read", "blocks")),
        ("pool_blocks", c_int64),
        *((name, c_void_p) for name in ("keys", "values", "cosines", "sines", "logits")),
        ("products_seconds", c_double),
    )


class SampledRow(ctypes.Structure):
    """``pt_sampling_row``."""

    _fields_ = (
        *((name, c_double) for name in ("temperature", "top_p", "min_p", "uniform")),
        *((name, c_int64) for name in ("top_k", "edits", "first_edit", "token")),
        ("logprob", c_double),
        ("sound", c_int64),
    )


class Sampling(ctypes.Structure):
    """``pt_sampling``."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "vocab")),
        *((name, c_void_p) for name in ("logits", "row")),
        *((name, c_void_p) for name in ("edit_tokens", "edit_divide", "edit_subtract")),
    )


class Matrix:
    """``pt_matrix``."""

    QKV, OUTPUT, GATE_UP, DOWN, HEAD = range(5)


class Vector:
    """``pt_vector``."""

    INPUT_NORM, POST_NORM, Q_NORM, K_NORM, THOUGHT, NORM = range(6)


def available() -> bool:
    """Whether the native runner can be used here."""
    return missing_reason() is None


def missing_reason() -> str | None:
    """Why not, in a sentence; None where it can."""
    found = _find()
    return found if isinstance(found, str) else None


def build_name() -> str | None:
    """Which build is used: generic, avx2 or avx512."""
    found = _find()
    return None if isinstance(found, str) else found[0]


def load() -> ctypes.CDLL:
    """The best build for this processor.

    Raises:
        RuntimeError: there is none; see :func:`missing_reason`.
    """
    found = _find()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found[1]


def read_bandwidth(size: int, threads: int) -> float:
    """Bytes a second at which so many threads read ``size`` bytes of memory once.

    The memory is kept for the next time.

    Raises:
        RuntimeError: there is no library here.
    """
    return float(load().pt_read_bandwidth(size, threads))


def check(status: int) -> None:
    """Raise what a function of the library reports.

    Raises:
        RuntimeError: it failed.
    """
    if status != 0:
        raise RuntimeError(f"native library: {load().pt_last_error().decode()}")


def _find() -> tuple[str, ctypes.CDLL] | str:
    wanted = os.environ.get(SWITCH, "")
    if wanted == "0":
        return f"the native library is switched off by {SWITCH}=0"
    generic = _load("generic")
    if isinstance(generic, str):
        return generic
    usable = _BUILDS[: _BUILDS.index(generic.pt_best_build().decode()) + 1]
    if wanted in _BUILDS and wanted not in usable:
        return f"{SWITCH}={wanted}, which this processor cannot run"
    reason = ""
    for name in [wanted] if wanted in _BUILDS else reversed(usable):
        found = _load(name)
        if not isinstance(found, str):
            return name, found
        reason = found
    return reason


@functools.cache
def _load(build: str) -> ctypes.CDLL | str:
    paths = sorted(Path(__file__).parent.glob(f"_{build}.*"))
    if not paths:
        return "the native library was not built: installing the package found no C++ compiler"
    try:
        library = ctypes.CDLL(str(paths[0]))
        if library.pt_abi() != _ABI:
            return f"{paths[0]} is of another version: install the package again"
    except (OSError, AttributeError) as error:
        return f"{paths[0]} cannot be loaded: {error}"
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    library.pt_best_build.restype = library.pt_last_error.restype = c_char_p
    library.pt_create.argtypes, library.pt_create.restype = [POINTER(Config)], c_void_p
    library.pt_destroy.argtypes, library.pt_destroy.restype = [c_void_p], None
    library.pt_set_matrix.argtypes = [c_void_p, c_int, c_int, c_void_p, c_void_p]
    library.pt_set_vector.argtypes = [c_void_p, c_int, c_int, c_void_p, c_int]
    library.pt_set_threads.argtypes = [c_void_p, c_int]
    library.pt_forward.argtypes = [c_void_p, POINTER(Batch)]
    library.pt_sample.argtypes = [c_void_p, POINTER(Sampling)]
    library.pt_read_bandwidth.argtypes = [c_int64, c_int]
    library.pt_read_bandwidth.restype = c_double
