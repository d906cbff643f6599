"""Checkpoints that are whole or not there: written aside, listed in a manifest, then renamed.

A kill or a full disk while saving leaves the checkpoints before it as they were. A file that was
cut short or lost later is noticed by the manifest, and the checkpoint before it is taken.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from parathinker.errors import CheckpointError

PREFIX = "checkpoint-"
SCRATCH = ".saving"
"""Where a checkpoint is written before it gets its name; nobody reads it."""
MANIFEST = "manifest.json"
SAVING_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What writing to a full or broken disk raises: Python, PyTorch, safetensors."""
FULL_BELOW = 2**18
"""Bytes free; less is what is left of a disk that a write did not fit on."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHECKED_BYTES = 2**30
"""Contents of larger files are not read again, only their sizes compared: that took minutes."""


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, the newest first."""
    found = [p for p in folder.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda p: -int(p.name.removeprefix(PREFIX)))


def publish(made: Path, folder: Path, keep: int) -> Path:
    """Give a checkpoint that is written out its name, and delete all but the newest ``keep``.

    Args:
        made: its folder, on the same disk as ``folder``.
    """
    files = sorted(p for p in made.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = {str(p.relative_to(made)): _facts(p) for p in files}
    (made / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    to_disk(made)
    target = folder / made.name
    if target.exists():
        shutil.rmtree(target)  # a damaged one that was passed over
    made.rename(target)
    _sync(folder)
    for old in checkpoints(folder)[keep:]:
        shutil.rmtree(old)
    return target


def newest_good(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; None if there is no checkpoint at all.

    Args:
        say: called with a line for each that is passed over.

    Raises:
        CheckpointError: there are some, and all are damaged.
    """
    faults = []
    for checkpoint in checkpoints(folder):
        fault = damage(checkpoint)
        if fault is None:
            return checkpoint
        faults.append(f"{checkpoint.name}: {fault}")
        say(f"{checkpoint} is damaged ({fault}); going back to the one before")
    if faults:
        raise CheckpointError(
            f"all checkpoints in {folder} are damaged ({'; '.join(faults)}); delete them to begin "
            "this stage anew"
        )
    return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None if nothing is."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        expected = {name: (int(size), crc) for name, (size, crc) in manifest.items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (ValueError, TypeError, AttributeError):
        return f"its {MANIFEST} is no list of files"
    for name, (size, crc) in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"it lacks {name}"
        found_size = path.stat().st_size
        if found_size != size:
            return f"{name} has {found_size:,} bytes instead of {size:,}"
        if _facts(path) != (size, crc):
            return f"{name} has other contents than it was saved with"
    return None


def not_saved(what: str, error: BaseException, folder: Path) -> CheckpointError:
    """Clear away what was half written, and say what is left."""
    free = shutil.disk_usage(folder).free
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    good = checkpoints(folder)
    last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint before it"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if free < FULL_BELOW and not isinstance(error, OSError):
        # PyTorch's writer says of a full disk that a position was not expected.
        reason = os.strerror(errno.ENOSPC)
    return CheckpointError(
        f"{what} could not be saved: {reason} ({free / 1e6:,.1f} MB were free there); {last}. "
        "Training stopped. Make room, then the same command goes on from there"
    )


def _facts(path: Path) -> tuple[int, int | None]:
    size = path.stat().st_size
    if size > CHECKED_BYTES:
        return size, None
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            crc = zlib.crc32(chunk, crc)
    return size, crc


def to_disk(folder: Path) -> None:
    """What was written there survives the machine's fall, where the system can promise it."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
