"""What a run was made with: versions, machine and commit, for the record."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from parathinker.processors import usable_processors

_PACKAGES = ("parathinker", "torch", "transformers", "math-verify", "reasoning-gym", "scipy")
_CPU_FACTS = Path("/proc/cpuinfo")


def surroundings(backend: str = "native") -> dict[str, Any]:
    """Versions, machine and commit.

    Args:
        backend: the engine; where it is a package of its own, its version is told too.
    """
    packages = (*_PACKAGES, *([backend] if backend != "native" else []))
    return {
        "versions": {name: _version(name) for name in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processors": usable_processors(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit_of(Path(__file__)),
    }


def processor() -> str | None:
    """The name of its model, where the system tells."""
    if not _CPU_FACTS.is_file():
        return platform.processor() or None
    for line in _CPU_FACTS.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def commit_of(file: Path) -> str | None:
    """Of the repository that a file belongs to.

    It has to be tracked there: a package that is installed into a virtual environment lies in the
    repository of whoever made that.
    """
    tracked = _git(file, "ls-files", "--error-unmatch", "--", file.name)
    if tracked is None:
        return None
    return _git(file, "describe", "--always", "--dirty", "--abbrev=12") or None


def _git(file: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", *arguments],
            cwd=file.parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
