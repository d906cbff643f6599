"""Where models lie: those that come with the package, folders, and the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from parathinker.errors import CheckpointError

EMBEDDED = Path(__file__).parent.parent / "models"
"""Folder of the models that come with the package."""


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in EMBEDDED.glob("*/config.json"))


def resolve_model(name: str) -> Path:
    """The folder of an embedded model's name, a path, or a hub id (downloaded once).

    Raises:
        CheckpointError: it is none of these, or cannot be fetched.
    """
    if name in embedded_models():
        return EMBEDDED / name
    if name and Path(name).is_dir():
        return Path(name)
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
    known = ", ".join(embedded_models()) or "there is none"
    raise CheckpointError(
        f"unknown model {name!r}: not an embedded model ({known}), "
        "not a folder, not a hub id like 'owner/name'"
    )
