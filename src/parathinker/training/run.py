"""Running a recipe: its stages one after another, exact resume, a clean stop on signals."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, get_scheduler

from parathinker.errors import MissingExtraError, UsageError
from parathinker.modeling.adapter import is_peft
from parathinker.modeling.adapter_base import write_base
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.export import TRAINING_FILE, write_model
from parathinker.processors import has_bfloat16_units
from parathinker.prompt import PromptCodec
from parathinker.training import checkpoints, distributed
from parathinker.training.batches import SLACK, Batches
from parathinker.training.meter import Meter, known_peak
from parathinker.training.model import adapter_base, build_model, continue_model
from parathinker.training.recipe import Recipe, StageRecipe
from parathinker.training.recipe_yaml import parse_recipe
from parathinker.training.samples_during import SampleDuring
from parathinker.training.trainer import ParaThinkerTrainer
from parathinker.training.validation import Validate, validation_batches

_CHECKPOINTING = "activation_checkpointing"
if _CHECKPOINTING not in TrainingArguments.__dataclass_fields__:
    _CHECKPOINTING = "gradient_checkpointing"  # what older transformers call it

Say = Callable[[str], None]


class StopOnSignal(TrainerCallback):
    """SIGTERM and SIGINT: finish the step, save a checkpoint, stop. A second one stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.stopped = False
        """Whether training was ended for it, here or in another process."""

    def __enter__(self) -> StopOnSignal:
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if distributed.any_of(self.received is not None, args.device):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
        return control


def train(
    recipe: Recipe,
    output: Path,
    callbacks: tuple[TrainerCallback, ...] = (),
    *,
    say: Say = lambda _: None,
    peak_flops: float | None = None,
) -> bool:
    """Run a recipe; what it made lies in ``output / "model"``: a model, or with LoRA an adapter.

    A stage that is done is not repeated; one that was broken off goes on from its last checkpoint
    with the same batches and losses as an unbroken run. Run by several processes (torchrun,
    accelerate launch), they share each step's batches; their machines share ``output``.

    Args:
        say: called with lines that people should see.
        peak_flops: operations a second that one device can do, for the utilisation in the log; by
            default the data sheet's where the GPU is a known one.

    Returns:
        True when all stages are done, False after SIGTERM; a rerun goes on.

    Raises:
        KeyboardInterrupt: after SIGINT, a checkpoint being saved; a rerun goes on.
        UsageError: ``output`` holds a run of another recipe, or the recipe does not fit the data
            or the number of processes.
        DivergedError: the loss or a gradient is no finite number.
        CheckpointError: a checkpoint could not be saved, or all there are are damaged.
    """
    if not distributed.is_main():
        say = _say_nothing
    done = None
    with StopOnSignal() as stop:
        for number, stage in enumerate(recipe.stages):
            folder = output / stage.name
            over = (folder / "done").exists()
            # What is wrong with the recipe is said before the folder is taken.
            run = None if over else _Stage(recipe, stage, number, folder, say, peak_flops)
            _claim(folder, recipe, number)
            if run is not None:
                run.train(done, (stop, *callbacks))
                if stop.stopped:
                    if stop.received == signal.SIGINT:
                        raise KeyboardInterrupt
                    return False
                run.finish()
            done = folder / "model"
        assert done is not None
        if distributed.is_main():
            _link(done, output / "model")
    return True


class _Stage:
    """One stage of a run."""

    def __init__(
        self,
        recipe: Recipe,
        stage: StageRecipe,
        number: int,
        folder: Path,
        say: Say,
        peak_flops: float | None,
    ) -> None:
        self._recipe, self._stage, self._folder, self._say = recipe, stage, folder, say
        self._seed, self._peak = recipe.seed * 1000 + number, peak_flops
        self._devices = distributed.world_size()
        if stage.batches_per_step % self._devices:
            raise UsageError(
                f"recipe: stage {stage.name!r} has {stage.batches_per_step} batches_per_step, "
                f"which {self._devices} processes cannot share evenly; make it a multiple of "
                f"{self._devices}, or train with fewer processes"
            )
        if recipe.sharding == "full" and self._devices > 1 and not distributed.is_sharded():
            raise UsageError(
                "recipe: sharding full needs accelerate to split the model: accelerate launch "
                "--config_file recipes/accelerate/fsdp2.yaml -m parathinker train RECIPE"
            )
        _check_scheduler(stage)

    def train(self, before: Path | None, callbacks: tuple[TrainerCallback, ...]) -> None:
        """Train until the stage is done, or somebody wants it to stop.

        Args:
            before: what the stage before made.
        """
        recipe, stage, folder = self._recipe, self._stage, self._folder
        resume = checkpoints.newest_good(folder, self._say)
        if before is None:
            self._model, self._tokenizer = build_model(recipe.model, recipe.seed)
        else:
            self._model, self._tokenizer = continue_model(before, recipe.model)
        batches, held_out = self._batches()
        config = DecoderConfig.from_dict(self._model.config.to_dict())
        self._trainer = ParaThinkerTrainer(
            Meter(config, recipe.model.lora is not None, self._peak_flops()),
            stage.keep_checkpoints,
            self._add_papers,
            model=self._model,
            args=self._arguments(batches.steps),
            train_dataset=batches,
            callbacks=list(callbacks),
        )
        # disable_tqdm brings a callback that prints raw dicts; progress is the caller's to show.
        self._trainer.remove_callback(PrinterCallback)
        if recipe.samples is not None:
            during = SampleDuring(recipe.samples, self._trainer, self._tokenizer, folder, self._say)
            self._trainer.add_callback(during)
        if recipe.validation is not None and held_out is not None:
            every = recipe.validation.every
            self._trainer.add_callback(Validate(held_out, every, self._trainer))
        try:
            self._trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        except OSError as error:  # a checkpoint's are CheckpointErrors by now: logs are left
            if error.errno not in checkpoints.FULL_DISK:
                raise
            raise checkpoints.not_saved("the log", error, folder) from error

    def finish(self) -> None:
        """Save what was made, and delete the checkpoints."""
        weights = self._trainer.whole_weights()
        if distributed.is_main():
            try:
                self._write(weights)
            except checkpoints.SAVING_ERRORS as error:
                raise checkpoints.not_saved("the model", error, self._folder) from error
            (self._folder / "done").touch()
            for checkpoint in checkpoints.checkpoints(self._folder):
                shutil.rmtree(checkpoint)
        self._trainer.accelerator.wait_for_everyone()
        if "wandb" in self._recipe.report_to:
            import wandb

            wandb.finish()
        del self._trainer, self._model

    def _write(self, weights: dict[str, Tensor]) -> None:
        """The stage's result, aside and then under its name."""
        made, scratch = self._folder / "model", self._folder / checkpoints.SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        if is_peft(self._model):
            self._model.save_pretrained(scratch, state_dict=weights, save_embedding_layers=False)
        else:
            write_model(scratch, weights, self._model)
        self._add_papers(scratch)
        checkpoints.to_disk(scratch)  # its checkpoints are deleted after this
        shutil.rmtree(made, ignore_errors=True)
        scratch.rename(made)

    def _add_papers(self, folder: Path) -> None:
        """Tokenizer, recipe, and which base an adapter goes on."""
        self._tokenizer.save_pretrained(folder)
        if self._recipe.model.lora is not None:
            write_base(adapter_base(self._recipe.model), folder)
        asked = dataclasses.asdict(self._recipe)
        (folder / TRAINING_FILE).write_text(json.dumps({"recipe": asked}, indent=1), "utf-8")

    def _batches(self) -> tuple[Batches, Batches | None]:
        """To train on and to validate on.

        The main process counts the examples' tokens, the others read what it found.
        """
        prefix = str(self._recipe.model.parathinker.get("summary_prefix", ""))
        # On GPUs, calling kernels is cheap beside what padding would cost there.
        slack = 0 if torch.cuda.is_available() else SLACK
        with distributed.processes().main_process_first():
            if distributed.is_main():
                self._tokenizer.save_pretrained(self._folder / "tokenizer")
            codec = PromptCodec.from_folder(self._folder / "tokenizer")
            cache = self._folder / "lengths.json"
            batches = Batches(self._stage, codec, self._seed, prefix, cache, self._say, slack)
            asked = self._recipe.validation
            if asked is None:
                return batches, None
            return batches, validation_batches(asked, self._stage, codec, prefix, slack)

    def _peak_flops(self) -> float | None:
        if self._peak is not None or not torch.cuda.is_available():
            return self._peak
        return known_peak(torch.cuda.get_device_name(), self._stage.bf16)

    def _arguments(self, steps: int) -> TrainingArguments:
        stage = self._stage
        self._check_reporters()
        checkpointing: Any = {_CHECKPOINTING: stage.activation_checkpointing}
        return TrainingArguments(
            output_dir=str(self._folder),
            run_name=f"{self._recipe.name}/{stage.name}",
            max_steps=steps,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=stage.batches_per_step // self._devices,
            # Sharded gradients have to stay sharded between batches, or they do not fit.
            accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}}
            if distributed.is_sharded()
            else None,
            learning_rate=stage.learning_rate,
            lr_scheduler_type=stage.lr_scheduler,
            lr_scheduler_kwargs=dict(stage.lr_scheduler_options),
            warmup_steps=stage.warmup_steps or round(stage.warmup_ratio * steps),
            weight_decay=stage.weight_decay,
            adam_beta1=stage.adam_beta1,
            adam_beta2=stage.adam_beta2,
            max_grad_norm=stage.max_grad_norm,
            bf16=self._computes_in_bfloat16(),
            **checkpointing,
            use_cpu=not torch.cuda.is_available(),
            ddp_find_unused_parameters=False,
            save_steps=stage.save_steps,
            logging_steps=stage.logging_steps,
            # What is not finite ends the run; it is not to be smoothed over in the log.
            logging_nan_inf_filter=False,
            report_to=list(self._recipe.report_to),
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=self._seed,
            disable_tqdm=True,
        )

    def _computes_in_bfloat16(self) -> bool:
        """As the recipe has it, but not where that is slow; then the run says so."""
        # Frozen weights of less than float32 would not go with it.
        frozen = self._recipe.model.dtype != "float32"
        slow = not torch.cuda.is_available() and has_bfloat16_units() is False
        if not (self._stage.bf16 and slow) or frozen:
            return self._stage.bf16
        self._say(
            f"{self._stage.name}: computing in float32, which is faster here than the recipe's "
            "bfloat16: this processor has no units for it"
        )
        return False

    def _check_reporters(self) -> None:
        if "wandb" not in self._recipe.report_to:
            return
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("reporting to Weights & Biases", "wandb") from error
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_PROJECT", "parathinker")
        os.environ["WANDB_DIR"] = str(self._folder)


def _check_scheduler(stage: StageRecipe) -> None:
    """Refuse options that the schedule does not know before anything is loaded."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    try:
        get_scheduler(
            stage.lr_scheduler,
            optimizer,
            0,
            100,
            scheduler_specific_kwargs=stage.lr_scheduler_options,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"recipe: stage {stage.name!r}: lr_scheduler_options do not fit "
            f"{stage.lr_scheduler}: {error}"
        ) from error


def _claim(folder: Path, recipe: Recipe, number: int) -> None:
    """Refuse to go on with what another recipe began; stages not begun yet may change."""

    marker = folder / "recipe.json"
    if marker.exists() and _essence(_read_marker(marker), number) != _essence(recipe, number):
        raise UsageError(
            f"{folder} was begun with a different recipe; give another --output, or delete it"
        )
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = marker.with_suffix(".new")
        fresh.write_text(json.dumps(dataclasses.asdict(recipe), indent=1), "utf-8")
        fresh.replace(marker)


def _essence(recipe: Recipe, number: int) -> Recipe:
    """What decides the weights of a stage: not how it is run, and what is shown along the way."""
    model = dataclasses.replace(
        recipe.model, architecture=None, base_licence=None, attention="auto"
    )
    stages = tuple(
        dataclasses.replace(
            stage,
            data=dataclasses.replace(stage.data, expected_examples=None),
            activation_checkpointing=False,
            save_steps=1,
            keep_checkpoints=1,
            logging_steps=1,
        )
        for stage in recipe.stages[: number + 1]
    )
    return Recipe(recipe.name, model, stages, recipe.seed)


def _read_marker(marker: Path) -> Recipe:
    try:
        return parse_recipe(json.loads(marker.read_text("utf-8")))
    except (ValueError, UsageError) as error:
        raise UsageError(
            f"{marker} says which recipe this run is of, and cannot be read: {error}; give "
            "another --output"
        ) from error


def _link(made: Path, target: Path) -> None:
    """The same files at another place, without taking their room twice where that can be."""

    def link(source: str, copy: str) -> None:
        try:
            os.link(source, copy)
        except OSError:
            shutil.copy2(source, copy)

    fresh = target.with_name(f".{target.name}.new")
    for old in (fresh, target):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(made, fresh, copy_function=link)
    fresh.rename(target)


def _say_nothing(_: str) -> None:
    pass
