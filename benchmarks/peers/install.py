"""A virtual environment for each peer, made on first use and again when its recipe changes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from peers.catalog import Environment


class InstallError(Exception):
    """A peer cannot be installed here; says why in a line."""


def install(environment: Environment, cache: Path) -> Path:
    """The environment's Python; pip's words go to ``<name>.log`` beside the environment.

    Raises:
        InstallError: pip or a build failed.
    """
    folder = cache / environment.name
    python = folder / "bin" / "python"
    stamp = folder / "installed.json"
    recipe = json.dumps(dataclasses.asdict(environment), sort_keys=True)
    if stamp.is_file() and stamp.read_text("utf-8") == recipe:
        return python
    log = cache / f"{environment.name}.log"
    print(f"Installing {environment.name}: takes minutes, see {log}", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip"]
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "install", *environment.pip_options, *environment.requirements],
    ]
    if environment.unwanted:
        commands.append([*pip, "uninstall", "--yes", *environment.unwanted])
    with log.open("w", encoding="utf-8") as output:
        for command in commands:
            finished = subprocess.run(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment.build},
                check=False,
            )
            if finished.returncode:
                raise InstallError(f"cannot be installed: {last_error(log)}")
    stamp.write_text(recipe, "utf-8")
    return python


def last_error(log: Path) -> str:
    """The line of a log that says best what went wrong."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
