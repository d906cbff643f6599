"""Making a plain Hugging Face model ready to be trained into a parallel thinker."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError, MissingExtraError, UsageError
from parathinker.modeling.config import DecoderConfig
from parathinker.tokens import add_control_tokens


def ready_model(
    source: Path, max_paths: int, thought_rows: int, thought_std: float = 0.0, **options: Any
) -> tuple[Any, Any]:
    """A transformers model with control tokens and thought embeddings, and its tokenizer.

    The embedding grows only if the tokenizer outgrows it. What the source has already of both
    is kept. Rows of new tokens are drawn from PyTorch's random state.

    Args:
        source: folder of a model of a supported architecture, with safetensors.
        max_paths: P_max, the largest number of paths to tell apart.
        thought_rows: rows of each thought embedding, one for the prompt and one for each path.
        thought_std: standard deviation of fresh thought embeddings.
        options: of transformers' ``from_pretrained``.

    Raises:
        CheckpointError: the source cannot be loaded.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("preparing a model", "train") from error
    from safetensors import SafetensorError

    from parathinker.modeling.thought_embedding import (
        attach_thought_embeddings,
        load_thought_embeddings,
    )

    DecoderConfig.from_folder(source)  # names what is wrong with it better than transformers does
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be loaded: {error}") from error
    add_control_tokens(tokenizer, max_paths)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    if not load_thought_embeddings(model, source):
        attach_thought_embeddings(model, thought_rows, thought_std)
    return model, tokenizer


def prepare_model(
    source: Path, target: Path, max_paths: int, thought_rows: int, replace: bool = False
) -> None:
    """Copy a model with control tokens and zero thought embeddings; what it computes stays.

    Nothing is left behind if this fails.

    Args:
        source, max_paths, thought_rows: see :func:`ready_model`.
        target: folder to make.
        replace: whether ``target`` may be a model's folder, which then is replaced.

    Raises:
        UsageError: ``thought_rows`` is too small, or ``target`` is in the way.
        CheckpointError: the source cannot be loaded.
        MissingExtraError: the ``train`` extra is not installed.
    """
    if thought_rows <= max_paths:
        raise UsageError(
            f"thought_rows should be at least {max_paths + 1} for {max_paths} paths, one of them "
            f"being the prompt's; got {thought_rows}"
        )
    check_target(source, target, replace)
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("preparing a model", "train") from error
    # The rows of new tokens are drawn: the same ones every time.
    transformers.set_seed(0)
    model, tokenizer = ready_model(source, max_paths, thought_rows, dtype="auto")

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)


def check_target(source: Path, target: Path, replace: bool = False) -> None:
    """Refuse to write where something is that would be lost.

    Raises:
        UsageError: ``target`` holds the source, is a file, or is not empty and may not be replaced.
    """
    if source.resolve().is_relative_to(target.resolve()):
        raise UsageError(f"{target} holds the source; give another target")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; give a folder")
    if not target.exists() or not any(target.iterdir()):
        return
    if not replace:
        raise UsageError(f"{target} is not empty; give another folder, or --force to replace it")
    if not (target / "config.json").is_file():
        raise UsageError(f"{target} is not empty and no model either, so it is not replaced")
