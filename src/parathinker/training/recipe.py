"""Recipes: YAML files that say all of a training run, checked before anything is loaded.

``parse_recipe`` builds these dataclasses from YAML (see ``recipe_yaml.py``); a sentence under each
field says what it means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from parathinker.errors import UsageError
from parathinker.modeling.config import THOUGHT_EMBEDDING_ROWS
from parathinker.tokens import RELEASED_MAX_PATHS

TASK_SOURCES = ("products", "sums")
"""Sources that make examples of a task without end (see ``parathinker.data``)."""
SOURCES = ("examples", *TASK_SOURCES)
ALIASES = {"jsonl": "examples"}
DTYPES = ("float32", "bfloat16")
QUANTIZATIONS = ("nf4",)
REPORTERS = ("tensorboard", "wandb")
SHARDINGS = ("none", "full")
ATTENTIONS = ("auto", "flex", "structured")
SCHEDULERS = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_min_lr",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
)
"""transformers' schedules that need nothing but the number of steps."""


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank adapters (LoRA, arXiv 2106.09685) in place of training all weights, by PEFT.

    Thought embeddings and the rows of control tokens are trained in full beside them.
    """

    rank: int = 16
    """Rank of the update of each matrix."""
    alpha: float = 32.0
    """The update is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    """Of what goes into the adapters, while training."""
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The linear layers that get one."""
    quantize: str | None = None
    """``nf4``: hold the frozen weights in four bits (QLoRA, arXiv 2305.14314); needs CUDA."""
    adapter: str | None = None
    """Go on with the adapter in this folder, or the embedded one of this name, in place of a fresh
    one; it says its own rank and modules."""

    def __post_init__(self) -> None:
        _at_least("model.lora", self, 1, "rank")
        _number("model.lora", self, 0, math.inf, "alpha", above=True)
        _number("model.lora", self, 0, 1, "dropout", below=True)
        if not self.target_modules:
            raise UsageError("recipe: model.lora.target_modules should name linear layers")
        if self.quantize is not None:
            _one_of("model.lora", self, "quantize", QUANTIZATIONS)


@dataclass(frozen=True)
class ModelRecipe:
    """Where training starts: a folder or hub id (``base``), or fresh weights (``init``)."""

    base: str | None = None
    init: dict[str, Any] | None = None
    """Arguments of the transformers config of ``model_type``; the vocabulary's size is added."""
    tokenizer: str | None = None
    """For fresh weights: the task whose words the byte-level tokenizer is made for."""
    dtype: str = "float32"
    """What the weights are held in while training; with ``lora`` the adapters are float32."""
    lora: LoraRecipe | None = None
    """Train adapters only; by default all weights."""
    max_paths: int = RELEASED_MAX_PATHS
    """P_max: control tokens for so many paths."""
    thought_embedding_rows: int = THOUGHT_EMBEDDING_ROWS
    thought_embedding_std: float = 0.0
    """Standard deviation of fresh thought embeddings; 0 leaves the base model unchanged."""
    parathinker: dict[str, Any] = field(default_factory=dict)
    """Defaults that the finished model carries: temperature, budgets, summary prefix, task."""
    architecture: dict[str, Any] | None = None
    """What the base's ``config.json`` says; only for ``--dry-run`` where the base is not here."""
    base_licence: str | None = None
    """For the card of an exported model, where the base brings no card of its own."""
    attention: str = "auto"
    """``flex``: FlexAttention; ``structured``: pieces merged by log-sum-exp; ``auto``: the first on
    CUDA, the second elsewhere. They compute the same."""

    def __post_init__(self) -> None:
        if (self.base is None) == (self.init is None):
            raise UsageError("recipe: model needs either 'base' or 'init', not both")
        if self.init is not None and "model_type" not in self.init:
            raise UsageError("recipe: model.init needs a 'model_type'")
        if self.architecture is not None and "model_type" not in self.architecture:
            raise UsageError("recipe: model.architecture needs a 'model_type'")
        _one_of("model", self, "dtype", DTYPES)
        _one_of("model", self, "attention", ATTENTIONS)
        if self.lora is not None and self.base is None:
            raise UsageError("recipe: model.lora adapts a 'base'; fresh weights have to learn all")
        if self.dtype != "float32" and self.lora is None:
            raise UsageError(
                f"recipe: model.dtype {self.dtype} is for frozen weights (lora): steps as small as "
                "training takes are lost in it. bf16 of a stage computes in it all the same"
            )
        _at_least("model", self, 1, "max_paths")
        if self.thought_embedding_rows <= self.max_paths:
            raise UsageError(
                f"recipe: model.thought_embedding_rows ({self.thought_embedding_rows}) should be "
                f"larger than max_paths ({self.max_paths}): row 0 is the prompt's"
            )


@dataclass(frozen=True)
class DataRecipe:
    """What a stage learns from: ``examples`` in ``files``, or a task that makes its own.

    Examples are seen once an epoch, in an order drawn from the seed. ``jsonl`` is an older name
    of ``examples``.
    """

    source: str
    paths: tuple[int, ...] = ()
    """Of a task: how many paths, one drawn for each batch, by default 1. ``examples``: take
    only those with one of these numbers of paths; by default all."""
    files: tuple[str, ...] = ()
    """``examples``: JSONL or Parquet files, or folders of built datasets."""
    max_tokens: int | None = None
    """``examples``: leave out those that are longer, prompt, paths and summary together."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the task's source."""
    fixed_examples: int | None = None
    """Use the first so many examples over and over: the overfitting gate."""
    chain: bool = False
    """Make one path of an example's, each going on from the one before: what the data alone are
    worth, and a baseline that thinks longer instead of wider."""
    expected_examples: int | None = None
    """How many there are about; only for ``--dry-run`` where the files are not here."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", ALIASES.get(self.source, self.source))
        if self.source not in SOURCES:
            raise UsageError(
                f"recipe: data.source {self.source!r} is unknown; known: {', '.join(SOURCES)}"
            )
        if self.source == "examples" and not self.files:
            raise UsageError("recipe: data.source examples needs 'files'")
        if any(p < 1 for p in self.paths):
            raise UsageError(f"recipe: data.paths should list numbers from 1, got {self.paths}")
        for name in ("max_tokens", "fixed_examples", "expected_examples"):
            if getattr(self, name) is not None:
                _at_least("data", self, 1, name)


@dataclass(frozen=True)
class StageRecipe:
    """One stretch of training with its own data and schedule."""

    name: str
    data: DataRecipe
    steps: int | None = None
    """Optimiser steps; or give ``epochs``."""
    epochs: float | None = None
    """Passes over the examples. The last step is filled up from the next pass."""
    batch_tokens: int = 8192
    """About so many tokens, padding not counted, in each batch."""
    batches_per_step: int = 1
    """Batches in each optimiser step, over all devices: they share them, and gather gradients
    over several where there are fewer devices. So a run is the same on 1, 2 or 8 devices."""
    learning_rate: float = 1e-5
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    """The same as a share of all steps."""
    lr_scheduler: str = "constant_with_warmup"
    lr_scheduler_options: dict[str, Any] = field(default_factory=dict)
    """Its own arguments, such as ``{min_lr_rate: 0.1}`` of ``cosine_with_min_lr``."""
    weight_decay: float = 0.05
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 0.5
    """Gradients are clipped to this norm; 0 leaves them."""
    summary_weight: float = 1.0
    """Weight of the loss on summaries, that on paths being 1: summaries are short."""
    bf16: bool = False
    """Compute in bfloat16; weights and optimiser stay as they are. On a processor without units for
    it, where that takes several times as long, it is float32 all the same."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again."""
    save_steps: int = 200
    keep_checkpoints: int = 2
    """The newest so many are kept."""
    logging_steps: int = 20

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        if (self.steps is None) == (self.epochs is None):
            raise UsageError(f"recipe: {where}: give either 'steps' or 'epochs'")
        if self.epochs is not None and self.data.source != "examples":
            raise UsageError(
                f"recipe: {where}: {self.data.source} never runs out, so it has no 'epochs'; "
                "give 'steps'"
            )
        if self.steps is not None:
            _at_least(where, self, 1, "steps")
        if self.epochs is not None:
            _number(where, self, 0, math.inf, "epochs", above=True)
        counts = "batch_tokens", "batches_per_step", "save_steps", "keep_checkpoints"
        _at_least(where, self, 1, *counts, "logging_steps")
        _number(where, self, 0, math.inf, "learning_rate", "summary_weight", above=True)
        _number(where, self, 0, math.inf, "weight_decay", "max_grad_norm")
        _number(where, self, 0, 1, "adam_beta1", "adam_beta2", "warmup_ratio", below=True)
        _at_least(where, self, 0, "warmup_steps")
        if self.warmup_steps and self.warmup_ratio:
            raise UsageError(f"recipe: {where}: give either 'warmup_steps' or 'warmup_ratio'")
        if self.steps is not None and self.warmup_steps > self.steps:
            raise UsageError(
                f"recipe: {where}: warmup_steps ({self.warmup_steps}) should not be more than "
                f"steps ({self.steps})"
            )
        _one_of(where, self, "lr_scheduler", SCHEDULERS)
        if self.lr_scheduler == "constant" and (self.warmup_steps or self.warmup_ratio):
            raise UsageError(
                f"recipe: {where}: lr_scheduler 'constant' has no warm-up; "
                "'constant_with_warmup' has"
            )


@dataclass(frozen=True)
class ValidationRecipe:
    """Examples whose loss is measured every so many steps, and at a stage's end."""

    files: tuple[str, ...]
    """As ``files`` of a stage's data; of a built dataset's folder name ``validation.parquet``."""
    every: int = 100
    max_examples: int | None = 200
    """The first so many; null takes all."""

    def __post_init__(self) -> None:
        if not self.files:
            raise UsageError("recipe: validation.files should name files")
        _at_least("validation", self, 1, "every")
        if self.max_examples is not None:
            _at_least("validation", self, 1, "max_examples")


@dataclass(frozen=True)
class SamplesRecipe:
    """Questions that the model thinks about every so many steps while it trains, to look at."""

    questions: tuple[str, ...]
    every: int = 100
    paths: int = 4
    max_path_tokens: int = 256
    max_summary_tokens: int = 256
    temperature: float | None = None
    """By default the model's own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.questions or not all(question.strip() for question in self.questions):
            raise UsageError("recipe: samples.questions should list questions")
        counts = "every", "paths", "max_path_tokens", "max_summary_tokens"
        _at_least("samples", self, 1, *counts)
        _at_least("samples", self, 0, "seed")
        if self.temperature is not None:
            _number("samples", self, 0, math.inf, "temperature")


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str
    model: ModelRecipe
    stages: tuple[StageRecipe, ...]
    seed: int = 0
    sharding: str = "none"
    """``full``: weights, gradients and optimiser states are split among the devices (FSDP2 or
    ZeRO-3, by ``accelerate launch``); ``none``: each device holds all."""
    report_to: tuple[str, ...] = ("tensorboard",)
    """Where figures go: ``tensorboard``, ``wandb`` (offline unless WANDB_MODE says otherwise)."""
    samples: SamplesRecipe | None = None
    """Questions to think about along the way."""
    validation: ValidationRecipe | None = None
    """Examples to measure the loss on along the way."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise UsageError(f"recipe: stages need one name each, got {names}")
        _one_of("", self, "sharding", SHARDINGS)
        if self.samples is not None and self.model.lora is not None and self.model.lora.quantize:
            raise UsageError(
                "recipe: samples need whole weights, and model.lora.quantize leaves none to take; "
                "leave one of the two out"
            )
        for reporter in self.report_to:
            if reporter not in REPORTERS:
                raise UsageError(
                    f"recipe: report_to {reporter!r} is unknown; known: {', '.join(REPORTERS)}"
                )
        if self.samples is not None and self.samples.paths > self.model.max_paths:
            raise UsageError(
                f"recipe: samples.paths ({self.samples.paths}) should not be more than "
                f"model.max_paths ({self.model.max_paths})"
            )


def _at_least(where: str, recipe: object, least: int, *names: str) -> None:
    for name in names:
        if getattr(recipe, name) < least:
            raise _bad(where, recipe, name, f"must be {least} or more")


def _number(
    where: str,
    recipe: object,
    least: float,
    most: float,
    *names: str,
    above: bool = False,
    below: bool = False,
) -> None:
    """Check finite numbers from ``least`` to ``most``, the ends included unless said."""
    for name in names:
        value = getattr(recipe, name)
        inside = (value > least or (not above and value == least)) and (
            value < most or (not below and value == most)
        )
        if not inside or not math.isfinite(value):
            lower = f"above {least}" if above else f"{least} or more"
            upper = "" if most == math.inf else f" and {'below' if below else 'at most'} {most}"
            raise _bad(where, recipe, name, f"must be {lower}{upper}")


def _one_of(where: str, recipe: object, name: str, known: tuple[str, ...]) -> None:
    value = getattr(recipe, name)
    if value not in known:
        raise UsageError(
            f"recipe: {where}{': ' if where else ''}{name} {value!r} is unknown; known: "
            f"{', '.join(known)}"
        )


def _bad(where: str, recipe: object, name: str, allowed: str) -> UsageError:
    return UsageError(f"recipe: {where}: {name} {allowed}, got {getattr(recipe, name)!r}")
