"""What a recipe would take: parameters, memory, steps and time, without loading any weights."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.folders import EMBEDDED, embedded_models
from parathinker.prompt import PromptCodec
from parathinker.tokens import ControlTokens, control_token_names
from parathinker.training.batch import IGNORED, EncodedExample
from parathinker.training.batches import WORK, Batches, Epochs
from parathinker.training.flops import Work, graph_work, total_work, training_flops
from parathinker.training.memory import Memory, Parameters, logits_at_once, training_memory
from parathinker.training.recipe import ModelRecipe, Recipe, StageRecipe

DEFAULT_MFU = 0.4
"""Assumed share of the peak that training reaches; not measured."""
_DRAWN = 8
"""Batches of a source without end that are looked at."""


@dataclass(frozen=True)
class Hardware:
    """What to plan for."""

    gpus: int = 8
    memory: float = 80e9
    flops: float = 312e12
    """Peak operations a second of one GPU; by default an A100's or A800's in dense bfloat16."""
    mfu: float = DEFAULT_MFU


@dataclass(frozen=True)
class DataPlan:
    """What there is to learn from, per epoch; of a source without end, in all steps."""

    found: bool
    """False: the files are not here, and these are the most that there can be."""
    examples: int | None
    tokens: int
    longest: int
    """Tokens of the longest batch."""
    fill: float
    """Tokens of a batch as a share of ``batch_tokens``."""
    steps: int
    """Of the whole stage."""
    work: Work
    """Of the whole stage."""


@dataclass(frozen=True)
class StagePlan:
    """One stage."""

    name: str
    data: DataPlan
    checkpointing: bool
    """Whether the recipe asks for it."""
    with_checkpointing: Memory
    without_checkpointing: Memory
    whole_logits: float
    """Bytes that logits and their gradients would take without chunks."""
    fits: bool
    devices: int
    """GPUs that have something to do: a step's batches are whole."""
    hours: float

    @property
    def memory(self) -> Memory:
        """What the recipe needs."""
        return self.with_checkpointing if self.checkpointing else self.without_checkpointing


@dataclass(frozen=True)
class Plan:
    """A whole recipe."""

    name: str
    sharding: str
    parameters: Parameters
    stages: tuple[StagePlan, ...]
    hardware: Hardware

    @property
    def fits(self) -> bool:
        """Whether every stage does."""
        return all(stage.fits for stage in self.stages)


def plan(recipe: Recipe, hardware: Hardware) -> Plan:
    """Work out what a recipe takes. Examples are read and counted where the files are here.

    Raises:
        UsageError: the base is not here and the recipe does not say its ``architecture``, or the
            batches cannot be shared by so many GPUs.
        CheckpointError: the base's config is damaged or of an unsupported architecture.
    """
    raw, folder = _architecture(recipe.model)
    config = DecoderConfig.from_dict(raw, "the base's config.json")
    parameters = _count(recipe.model, raw)
    stages = []
    for stage in recipe.stages:
        devices = min(hardware.gpus, stage.batches_per_step)
        if stage.batches_per_step % devices or (
            recipe.sharding == "full" and devices < hardware.gpus
        ):
            raise UsageError(
                f"recipe: stage {stage.name!r} has {stage.batches_per_step} batches_per_step, "
                f"which {hardware.gpus} GPUs cannot share evenly"
            )
        data = _look_at_data(recipe, stage, folder)
        tokens = max(data.longest, stage.batch_tokens)
        kept, thrifty = (
            training_memory(
                config,
                parameters,
                tokens,
                gpus=hardware.gpus,
                sharded=recipe.sharding == "full",
                weight_bytes=2 if recipe.model.dtype == "bfloat16" else 4,
                bf16=stage.bf16,
                checkpointing=checkpointing,
            )
            for checkpointing in (False, True)
        )
        flops = training_flops(config, data.work, frozen=recipe.model.lora is not None)
        needed = thrifty if stage.activation_checkpointing else kept
        stages.append(
            StagePlan(
                name=stage.name,
                data=data,
                checkpointing=stage.activation_checkpointing,
                with_checkpointing=thrifty,
                without_checkpointing=kept,
                whole_logits=logits_at_once(config, tokens),
                fits=needed.total <= hardware.memory,
                devices=devices,
                hours=flops / (devices * hardware.flops * hardware.mfu) / 3600,
            )
        )
    return Plan(recipe.name, recipe.sharding, parameters, tuple(stages), hardware)


def _architecture(model: ModelRecipe) -> tuple[dict[str, Any], Path | None]:
    """The base's config with room for control tokens, and its folder where it is here."""
    if model.init is not None:
        from parathinker.training.model import fresh_tokenizer

        tokenizer = fresh_tokenizer(model.tokenizer)
        known = len(tokenizer) + len(control_token_names(model.max_paths))
        return {**model.init, "vocab_size": known}, None
    assert model.base is not None
    folder = EMBEDDED / model.base if model.base in embedded_models() else Path(model.base)
    if folder.is_dir():
        raw = read_json_object(folder / "config.json")
        from tokenizers import Tokenizer

        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        fresh = set(control_token_names(model.max_paths)) - set(vocabulary)
        return {**raw, "vocab_size": max(raw["vocab_size"], len(vocabulary) + len(fresh))}, folder
    if model.architecture is not None:
        return dict(model.architecture), None
    if model.base.count("/") == 1:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return read_json_object(Path(hf_hub_download(model.base, "config.json"))), None
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UsageError(
                f"the base {model.base!r} is not here and the hub does not give its config.json "
                f"({error}); write what it says into the recipe as model.architecture"
            ) from error
    raise CheckpointError(
        f"the base {model.base!r} is no folder here; make it first, or write what its config.json "
        "says into the recipe as model.architecture"
    )


def _count(model: ModelRecipe, raw: dict[str, Any]) -> Parameters:
    """Count on PyTorch's meta device, where tensors have sizes and no memory."""
    import torch
    import transformers

    from parathinker.modeling.adapter import add_adapter
    from parathinker.modeling.thought_embedding import attach_thought_embeddings

    options = {k: v for k, v in raw.items() if k not in ("model_type", "transformers_version")}
    config = transformers.AutoConfig.for_model(raw["model_type"], **options)
    with torch.device("meta"):
        built: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        attach_thought_embeddings(built, model.thought_embedding_rows)
        layer = _size(built.model.layers[0])
        matrices = sum(
            p.numel() for n, p in built.model.layers.named_parameters() if n.endswith("proj.weight")
        )
        if model.lora is not None:
            lora = model.lora
            built = add_adapter(
                built,
                _any_tokens(model.max_paths),
                lora.rank,
                lora.alpha,
                lora.dropout,
                lora.target_modules,
            )
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
    quantised = matrices if model.lora is not None and model.lora.quantize else 0
    vocabulary = int(config.vocab_size) * int(config.hidden_size)
    head_trained = built.get_output_embeddings().weight.requires_grad and model.lora is None
    return Parameters(_size(built), trained, layer, vocabulary, head_trained, quantised)


def _size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _any_tokens(max_paths: int) -> ControlTokens:
    """So many control tokens; which ids they have does not matter for counting them."""
    ids = iter(range(2 * max_paths + 3))
    opens = tuple(next(ids) for _ in range(max_paths))
    closes = tuple(next(ids) for _ in range(max_paths))
    return ControlTokens(opens, closes, next(ids), next(ids), next(ids))


def _look_at_data(recipe: Recipe, stage: StageRecipe, base: Path | None) -> DataPlan:
    files = [Path(file) for file in stage.data.files]
    no_tokenizer = base is None and recipe.model.init is None
    if no_tokenizer or not all(file.exists() for file in files):
        return _most_there_can_be(stage)
    with tempfile.TemporaryDirectory() as scratch:
        codec = _codec(recipe.model, base, Path(scratch))
    prefix = str(recipe.model.parathinker.get("summary_prefix", ""))
    batches = Batches(stage, codec, recipe.seed * 1000, prefix)
    if isinstance(batches.source, Epochs):
        return _in_files(stage, batches, batches.source)
    drawn = [batches[i][WORK] for i in range(min(_DRAWN, len(batches)))]
    mean = total_work(drawn)
    share = len(batches) / len(drawn)
    work = Work(*(round(share * n) for n in (mean.tokens, mean.pairs, mean.predicted)))
    longest = max(part.tokens for part in drawn)
    fill = mean.tokens / len(drawn) / stage.batch_tokens
    return DataPlan(True, None, work.tokens, longest, fill, batches.steps, work)


def _in_files(stage: StageRecipe, batches: Batches, source: Epochs) -> DataPlan:
    epoch = total_work(
        graph_work(encoded.graph, _predicted(encoded))
        for i in range(source.epoch_batches())
        for _, encoded in source.fill(i, random.Random(0))
    )
    count = source.epoch_batches()
    share = len(batches) / count
    work = Work(*(round(share * n) for n in (epoch.tokens, epoch.pairs, epoch.predicted)))
    return DataPlan(
        True,
        len(source.examples),
        epoch.tokens,
        max(max(source.lengths), stage.batch_tokens),
        epoch.tokens / count / stage.batch_tokens,
        batches.steps,
        work,
    )


def _most_there_can_be(stage: StageRecipe) -> DataPlan:
    """Every expected example as long as it may be, each token seeing all before it."""
    examples = stage.data.expected_examples
    if examples is None and stage.steps is None:
        raise UsageError(
            f"stage {stage.name!r}: the data is not here, and data.expected_examples does not say "
            "how much there would be"
        )
    tokens = stage.data.max_tokens or stage.batch_tokens
    one = Work(tokens, tokens * (tokens + 1) // 2, tokens)
    if stage.steps is not None:
        steps = stage.steps
        seen = steps * stage.batches_per_step
    else:
        assert examples is not None
        assert stage.epochs is not None
        seen = round(examples * stage.epochs)
        steps = -(-seen // stage.batches_per_step)
    work = Work(one.tokens * seen, one.pairs * seen, one.predicted * seen)
    epoch = one.tokens * (examples or seen)
    return DataPlan(False, examples, epoch, tokens, tokens / stage.batch_tokens, steps, work)


def _codec(model: ModelRecipe, base: Path | None, scratch: Path) -> PromptCodec:
    from transformers import AutoTokenizer

    from parathinker.tokens import add_control_tokens
    from parathinker.training.model import fresh_tokenizer

    if base is None:
        tokenizer = fresh_tokenizer(model.tokenizer)
    else:
        tokenizer = AutoTokenizer.from_pretrained(base)
    add_control_tokens(tokenizer, model.max_paths)
    tokenizer.save_pretrained(scratch)
    return PromptCodec.from_folder(scratch)


def _predicted(encoded: EncodedExample) -> int:
    return sum(label != IGNORED for part in encoded.labels for label in part)
