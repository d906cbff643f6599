"""Where models lie: those that come with this package or another, folders, the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from parathinker.errors import CheckpointError
from parathinker.modeling.gguf import PACKAGES, packaged_model

EMBEDDED = Path(__file__).parent.parent / "models"
"""Folder of the models that come with the package."""
ADAPTER_CONFIG = "adapter_config.json"
"""What tells a folder with an adapter from one with a model."""
EXAMPLES = "examples.jsonl"
"""File in a model's folder: held-out problems, a line ``{"question", "answer"}`` each."""


def embedded_models() -> list[str]:
    """Names of the models that come with the package, whole."""
    return sorted(p.parent.name for p in EMBEDDED.glob("*/config.json"))


def embedded_adapters() -> list[str]:
    """Names of the adapters that come with the package; their bases do not."""
    return sorted(p.parent.name for p in EMBEDDED.glob(f"*/{ADAPTER_CONFIG}"))


def adapter_folder(name: str) -> Path:
    """Where an embedded adapter lies, by its name; any other name is a path."""
    return EMBEDDED / name if name in embedded_adapters() else Path(name)


def resolve_model(name: str) -> Path:
    """The folder of an embedded model's name, a path, or a hub id (downloaded once).

    An adapter is merged into its base on first use, and kept in the user's cache.

    Raises:
        CheckpointError: it is none of these, or cannot be fetched; or an adapter's base is missing.
        MissingExtraError: what merging an adapter takes is not installed.
    """
    folder = _folder(name)
    if (folder / ADAPTER_CONFIG).is_file():
        from parathinker.modeling.export import merged_folder

        return merged_folder(folder)
    return folder


def _folder(name: str) -> Path:
    if name in (*embedded_models(), *embedded_adapters()):
        return EMBEDDED / name
    if name and Path(name).is_dir():
        return Path(name)
    if name in PACKAGES:
        return packaged_model(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            wanted = ["*.json", "*.safetensors", "*.jinja"]
            return Path(snapshot_download(name, allow_patterns=wanted))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{name!r} is no folder here, and the hub did not give it: {error}"
            ) from error
    known = ", ".join((*embedded_models(), *embedded_adapters())) or "there is none"
    raise CheckpointError(
        f"unknown model {name!r}: not an embedded model ({known}), "
        "not a folder, not a hub id like 'owner/name'"
    )
