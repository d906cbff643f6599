"""Trained models as folders that this package, transformers, vLLM and the hub understand.

A folder holds safetensors, the config with this product's own section, the tokenizer and, when it
was exported, a model card, the recipe and the base's licence. Adapters are merged into their base.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parathinker.errors import CheckpointError, MissingExtraError
from parathinker.graph import ThoughtGraph
from parathinker.modeling.adapter import load_adapter, merged_weights
from parathinker.modeling.adapter_base import BASE_FILE, is_adapter, read_base
from parathinker.modeling.card import CardFacts, base_licence, model_card
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.folders import EXAMPLES, resolve_model
from parathinker.modeling.gguf import transformers_quietly
from parathinker.modeling.made_once import cache_folder, made_once
from parathinker.modeling.masks import additive_mask
from parathinker.modeling.prepare import check_target
from parathinker.modeling.thought_embedding import load_thought_embeddings
from parathinker.prompt import PromptCodec

TRAINING_FILE = "training.json"
"""File in a trained model's folder: the recipe it was made by."""
EVALUATION_FILE = "evaluation.json"
"""File that may lie beside a model: what ``parathinker eval --json`` printed."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far logits may be off, as a share of the largest one: what rounding does, and no more."""
_CARRIED = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_QUESTION, _PATHS, _SUMMARY = (
    "What is 12 * 34?",
    ("12 * 34 is 12 * 30 + 12 * 4.", "34 * 12: 340 and 68, so 408."),
    "The answer is 408.",
)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with what it was made from."""

    folder: str
    dtype: str
    parameters: int
    merged: bool
    """Whether an adapter was merged into its base."""
    largest_difference: float
    """Of any logit, on a prompt with two paths and a summary, both computed in float32."""
    largest_logit: float


def write_model(folder: Path, weights: Mapping[str, Tensor], model: Any) -> None:
    """Write weights as a model's folder; the tokenizer is the caller's to add.

    Args:
        weights: by the names of the plain model; a head that is tied to the embedding is left out.
        model: the transformers model, or an adapted one, that they belong to; for its configs.
    """
    from huggingface_hub import save_torch_state_dict

    config = copy.deepcopy(model.config)
    config._attn_implementation = "sdpa"  # ours is for training
    config.use_cache = True  # transformers' Trainer turns it off
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = next(w.dtype for w in weights.values() if w.is_floating_point())
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    kept = {name: weight for name, weight in weights.items() if name not in tied}
    save_torch_state_dict(kept, folder, metadata={"format": "pt"})


def export_model(
    source: Path,
    target: Path,
    dtype: str = "auto",
    evaluation: Path | None = None,
    replace: bool = False,
) -> ExportReport:
    """Make a folder for everyone out of what training left, and check that it computes the same.

    Nothing is left behind if this fails.

    Args:
        source: a run's folder, a model's, or an adapter's.
        target: folder to make.
        dtype: of the weights; ``auto``: as the source's, or its base's, are stored.
        evaluation: what ``parathinker eval --json`` printed, for the card; by default
            ``evaluation.json`` in the source, where there is one.
        replace: whether ``target`` may be a model's folder, which then is replaced.

    Raises:
        CheckpointError: the source is damaged, or the result computes something else.
        UsageError: ``target`` is in the way.
        MissingExtraError: the ``train`` extra is not installed.
    """
    source = _trained_in(source)
    check_target(source, target, replace)
    model, tokenizer, base = _load(source)
    config = model.config
    stored = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    chosen = DTYPES[stored if dtype == "auto" else dtype]
    evaluation = evaluation or source / EVALUATION_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "model"
        weights = dict(model.state_dict())
        if is_adapter(source):
            weights = merged_weights(model, weights)
        plain = model.get_base_model() if is_adapter(source) else model
        weights = {
            name: w.to(chosen) if w.is_floating_point() else w for name, w in weights.items()
        }
        write_model(made, weights, plain)
        tokenizer.save_pretrained(made)
        parameters = sum(w.numel() for n, w in weights.items() if not _is_tied(n, config))
        del weights
        expected = probe(model, PromptCodec.from_folder(made))
        del model, plain
        found = probe(_load_plain(made, torch.float32)[0], PromptCodec.from_folder(made))
        largest = float((found - expected).abs().max())
        scale = float(expected.abs().max())
        if not largest <= _TOLERANCE[chosen] * scale:
            raise CheckpointError(
                f"the exported model computes something else than {source}: a logit differs by "
                f"{largest:.2g}, the largest being {scale:.2g}"
            )
        report = ExportReport(
            str(target),
            str(chosen).removeprefix("torch."),
            parameters,
            is_adapter(source),
            largest,
            scale,
        )
        _add_papers(made, source, base, evaluation, target.name, report)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    return report


def merged_folder(adapter: Path) -> Path:
    """An adapter with its base as one model, in the user's cache; made on first use.

    Raises:
        CheckpointError: the adapter or its base is missing or damaged.
        MissingExtraError: the ``train`` extra is not installed.
    """
    digest = hashlib.sha256()
    for file in [*sorted(adapter.glob("*.safetensors")), adapter / BASE_FILE]:
        if file.is_file():
            digest.update(file.read_bytes())
    kept = cache_folder() / f"{adapter.resolve().name}-{digest.hexdigest()[:16]}"

    def make(folder: Path) -> None:
        transformers_quietly()
        export_model(adapter, folder)
        if (adapter / EXAMPLES).is_file():
            shutil.copy(adapter / EXAMPLES, folder)

    return made_once(kept, make)


def probe(model: Any, codec: PromptCodec) -> Tensor:
    """Logits [S, V] of a short question with paths and a summary, in float32.

    Args:
        model: a transformers model with thought embeddings, its attention taking a dense mask.
    """
    control = codec.control
    paths = [
        [control.opens[i], *codec.encode_text(text), control.closes[i]]
        for i, text in enumerate(_PATHS[: control.max_paths])
    ]
    prompt = codec.encode_question(_QUESTION)
    summary = [control.summary_open, *codec.encode_text(_SUMMARY), control.summary_close]
    graph = ThoughtGraph.parallel(
        len(prompt), [(i, len(path)) for i, path in enumerate(paths, 1)], len(summary)
    )
    with torch.no_grad():
        logits: Tensor = model(
            input_ids=torch.tensor([[t for part in (prompt, *paths, summary) for t in part]]),
            position_ids=torch.tensor([graph.positions()]),
            thought_ids=torch.tensor([graph.thought_ids()]),
            attention_mask=additive_mask(graph),
            use_cache=False,
        ).logits
    return logits[0].float()


def _trained_in(source: Path) -> Path:
    """The model's or adapter's folder, where a whole run's was named."""
    if not is_adapter(source) and not (source / "config.json").is_file():
        model = source / "model"
        if is_adapter(model) or (model / "config.json").is_file():
            return model
        if not source.is_dir() or any(source.glob("*/recipe.json")):
            hint = "its stages are not all done" if source.is_dir() else "there is no such folder"
            raise CheckpointError(f"{source} holds no trained model: {hint}")
    return source


def _load(source: Path) -> tuple[Any, Any, str | None]:
    """The source as transformers runs it, in float32; its tokenizer; the name of its base."""
    if is_adapter(source):
        model, tokenizer = load_adapter(source, dtype="float32", attn_implementation="eager")
        base = read_base(source).base
        stored = read_json_object(resolve_model(base) / "config.json")
        model.config.dtype = stored.get("dtype") or stored.get("torch_dtype") or "float32"
        return model.eval(), tokenizer, base
    model, tokenizer = _load_plain(source, torch.float32)
    stored = read_json_object(source / "config.json")
    model.config.dtype = stored.get("dtype") or stored.get("torch_dtype") or "float32"
    return model, tokenizer, _recipe(source).get("model", {}).get("base")


def _load_plain(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("exporting a model", "train") from error
    from safetensors import SafetensorError

    DecoderConfig.from_folder(folder)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", use_safetensors=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    if not load_thought_embeddings(model, folder):
        raise CheckpointError(
            f"{folder} has no thought embeddings, so there is nothing of ours to export"
        )
    return model.eval(), tokenizer


def _is_tied(name: str, config: Any) -> bool:
    return bool(config.tie_word_embeddings) and name == "lm_head.weight"


def _recipe(source: Path) -> dict[str, Any]:
    file = source / TRAINING_FILE
    if not file.is_file():
        return {}
    recipe = read_json_object(file).get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def _add_papers(
    made: Path,
    source: Path,
    base: str | None,
    evaluation: Path,
    name: str,
    report: ExportReport,
) -> None:
    """Model card, recipe, measurements, licence, and example problems where there are any."""
    for file in (TRAINING_FILE, "examples.jsonl"):
        if (source / file).is_file():
            shutil.copy(source / file, made / file)
    measured = None
    if evaluation.is_file():
        measured = read_json_object(evaluation)
        (made / EVALUATION_FILE).write_text(json.dumps(measured, indent=1), "utf-8")
    folders = [source]
    if base is not None:
        # Of a base that is gone by now, the card says that its licence is not known.
        with suppress(CheckpointError):
            folders.append(resolve_model(base))
    for folder in folders:
        for pattern in _CARRIED:
            for paper in sorted(folder.glob(pattern)):
                if paper.is_file() and not (made / paper.name).exists():
                    shutil.copy(paper, made / paper.name)
    control = PromptCodec.from_folder(made).control
    recipe = _recipe(source)
    said = recipe.get("model", {}).get("base_licence")
    facts = CardFacts(
        name=name,
        base=base,
        licence=(base_licence(base) or said) if base is not None else None,
        max_paths=control.max_paths,
        parameters=report.parameters,
        dtype=report.dtype,
        merged=report.merged,
        recipe=recipe,
        evaluation=measured,
    )
    (made / "README.md").write_text(model_card(facts), "utf-8")
