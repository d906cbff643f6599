"""What a model's folder holds, read without loading it: config, tensor headers, control tokens."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from parathinker.errors import CheckpointError
from parathinker.modeling.config import DecoderConfig, is_thought_embedding
from parathinker.prompt import read_chat_template
from parathinker.tokens import ControlTokens


@dataclass(frozen=True)
class ModelFacts:
    """A model in numbers."""

    name: str
    folder: str
    architecture: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    parameters: int
    """As stored: tied weights count once."""
    dtypes: list[str]
    """Of the tensors on disk, the commonest first."""
    bytes_on_disk: int
    """Of all files in the folder."""
    max_paths: int | None
    """P_max; None where the tokenizer has no control tokens."""
    thought_embedding_rows: int | None
    """None where the checkpoint has no thought embeddings; they count as zero."""
    chat_template: bool
    task: str | None
    defaults: dict[str, Any]
    """Thinking parameters that the model brings along."""


def read_facts(folder: Path, name: str | None = None) -> ModelFacts:
    """Look at a folder.

    Raises:
        CheckpointError: it is no model, or its config, tensors or tokenizer cannot be read.
    """
    config = DecoderConfig.from_folder(folder)
    tensors = _tensor_headers(folder)
    sizes: dict[str, int] = {}
    for shape, dtype in tensors.values():
        sizes[dtype] = sizes.get(dtype, 0) + prod(shape)
    rows = [shape[0] for name, (shape, _) in tensors.items() if is_thought_embedding(name)]
    defaults = dict(config.parathinker)
    task = defaults.pop("task", None)
    return ModelFacts(
        name=name or folder.resolve().name,
        folder=str(folder),
        architecture=config.model_type,
        layers=config.num_layers,
        hidden_size=config.hidden_size,
        heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocabulary=config.vocab_size,
        context=config.max_context,
        parameters=sum(sizes.values()),
        dtypes=sorted(sizes, key=lambda dtype: -sizes[dtype]),
        bytes_on_disk=sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
        max_paths=_max_paths(folder),
        thought_embedding_rows=rows[0] if rows else None,
        chat_template=read_chat_template(folder) is not None,
        task=None if task is None else str(task),
        defaults=defaults,
    )


def _tensor_headers(folder: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of every tensor in the folder's safetensors files."""
    headers: dict[str, tuple[list[int], str]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    part = file.get_slice(name)
                    headers[name] = list(part.get_shape()), str(part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read; it is damaged or cut short: {error}"
            ) from error
    if not headers:
        raise CheckpointError(f"{folder} has no safetensors files")
    return headers


def _max_paths(folder: Path) -> int | None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab()
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    try:
        return ControlTokens.find(vocabulary).max_paths
    except CheckpointError:
        return None
