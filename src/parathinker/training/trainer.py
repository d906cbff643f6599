"""Running a recipe on transformers' ``Trainer``: stages, exact resume, a clean stop on SIGTERM."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from parathinker.data.products import ProductsSource
from parathinker.data.schema import Example, read_examples
from parathinker.errors import UsageError
from parathinker.prompt import PromptCodec
from parathinker.training.batch import IGNORED, EncodedExample, collate, encode_example
from parathinker.training.model import build_model, load_model
from parathinker.training.recipe import DataRecipe, Recipe, StageRecipe, parse_recipe


class Batches(Dataset[dict[str, Any]]):
    """A stage's data, a whole batch an item: item ``i`` is the same on every run.

    Batches are made of examples with one number of paths and hold about ``batch_tokens`` tokens.
    """

    def __init__(self, stage: StageRecipe, codec: PromptCodec, seed: int, prefix: str) -> None:
        self._codec, self._seed, self._prefix = codec, seed, prefix
        self._steps, self._budget, self._data = stage.steps, stage.batch_tokens, stage.data
        self._summary_weight = stage.summary_weight
        self._example = _example_maker(stage.data, seed)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(f"{self._seed}/batch/{index}")
        paths = rng.choice(self._data.paths)
        encoded: list[EncodedExample] = []
        tokens = 0
        while not encoded or tokens + tokens // len(encoded) <= self._budget:
            example = self._example(rng, paths)
            encoded.append(encode_example(example, self._codec, rng, self._prefix))
            tokens += encoded[-1].graph.length
        pad = self._codec.control.pad
        if pad is None:
            pad = self._codec.control.summary_close
        return collate(encoded, pad, self._summary_weight)


def _example_maker(data: DataRecipe, seed: int) -> Callable[[random.Random, int], Example]:
    """How a stage draws an example with so many paths."""
    if data.source == "products":
        try:
            source = ProductsSource(seed, **data.options)
        except TypeError as error:
            raise UsageError(f"recipe: data.options do not fit source products: {error}") from error
        limit = data.fixed_examples or 2**40
        return lambda rng, paths: source.example(rng.randrange(limit), paths)
    by_paths: dict[int, list[Example]] = {}
    for file in data.files:
        for example in read_examples(Path(file)):
            by_paths.setdefault(len(example.paths), []).append(example)
    for count in data.paths:
        if count not in by_paths:
            raise UsageError(
                f"recipe: data.paths asks for {count} paths, but the files only hold examples "
                f"with {sorted(by_paths)}"
            )
        if len({example.summary is None for example in by_paths[count]}) > 1:
            raise UsageError(
                f"recipe: of the files' examples with {count} paths some have a summary and some "
                "have none; give them stages of their own"
            )
    if data.fixed_examples:
        by_paths = {count: found[: data.fixed_examples] for count, found in by_paths.items()}
    return lambda rng, paths: rng.choice(by_paths[paths])


class ParaThinkerTrainer(Trainer):
    """``Trainer`` with weighted losses, divided by the number of labelled positions."""

    model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        labels_BS, weights_BS = inputs.pop("shift_labels"), inputs.pop("loss_weights")
        # Logits only where some example has a label: a long prompt costs no vocabulary-wide rows.
        columns = (labels_BS != IGNORED).any(dim=0).nonzero()[:, 0]
        outputs = model(**inputs, logits_to_keep=columns, use_cache=False)
        labels_BS, weights_BS = labels_BS[:, columns], weights_BS[:, columns]
        losses = F.cross_entropy(
            outputs.logits.flatten(0, 1).float(),
            labels_BS.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        total = (losses * weights_BS.flatten()).sum()
        count = num_items_in_batch
        if count is None:
            count = (labels_BS != IGNORED).sum()
        # A batch may hold nothing but flawed paths, which teach nothing: 0, not 0 / 0.
        loss = total / max(count, 1)
        return (loss, outputs) if return_outputs else loss


class StopOnSignal(TrainerCallback):
    """SIGTERM and SIGINT: finish the step, save a checkpoint, stop. A second one stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None

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
        if self.received is not None:
            control.should_save = True
            control.should_training_stop = True
        return control


def train(recipe: Recipe, output: Path, callbacks: tuple[TrainerCallback, ...] = ()) -> bool:
    """Run a recipe; the finished model lies in ``output / "model"``.

    A stage that is done is not repeated; one that was broken off goes on from its last checkpoint
    with the same batches and losses as an unbroken run.

    Returns:
        True when all stages are done, False after SIGTERM; a rerun goes on.

    Raises:
        KeyboardInterrupt: after SIGINT, a checkpoint being saved; a rerun goes on.
        UsageError: ``output`` holds a run of another recipe.
    """
    model, tokenizer = build_model(recipe.model, recipe.seed)
    with StopOnSignal() as stop:
        for number, stage in enumerate(recipe.stages):
            folder = output / stage.name
            _claim(folder, recipe, number)
            if (folder / "done").exists():
                model, tokenizer = load_model(folder / "model")
                continue
            _run_stage(recipe, stage, number, folder, model, tokenizer, (stop, *callbacks))
            if stop.received == signal.SIGINT:
                raise KeyboardInterrupt
            if stop.received is not None:
                return False
            _save(model, tokenizer, folder / "model")
            (folder / "done").touch()
            for checkpoint in folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
    _save(model, tokenizer, output / "model")
    return True


def _run_stage(
    recipe: Recipe,
    stage: StageRecipe,
    number: int,
    folder: Path,
    model: Any,
    tokenizer: Any,
    callbacks: tuple[TrainerCallback, ...],
) -> None:
    tokenizer.save_pretrained(folder / "tokenizer")
    codec = PromptCodec.from_folder(folder / "tokenizer")
    seed = recipe.seed * 1000 + number
    prefix = str(recipe.model.parathinker.get("summary_prefix", ""))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.lr_scheduler,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        adam_beta2=stage.adam_beta2,
        max_grad_norm=stage.max_grad_norm,
        bf16=stage.bf16,
        use_cpu=not torch.cuda.is_available(),
        save_steps=stage.save_steps,
        save_total_limit=2,
        logging_steps=stage.logging_steps,
        report_to=["tensorboard"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=seed,
        disable_tqdm=True,
    )
    trainer = ParaThinkerTrainer(
        model=model,
        args=arguments,
        train_dataset=Batches(stage, codec, seed, prefix),
        data_collator=_only_item,
        callbacks=list(callbacks),
    )
    for checkpoint in folder.glob("checkpoint-*"):
        # The state is written last: without it the run was killed while saving.
        if not (checkpoint / TRAINER_STATE_NAME).exists():
            shutil.rmtree(checkpoint)
    # disable_tqdm brings a callback that prints raw dicts; progress is the caller's to show.
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))


def _only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator of a dataset whose items are batches."""
    return items[0]


def _claim(folder: Path, recipe: Recipe, number: int) -> None:
    """Refuse to go on with what another recipe began; stages not begun yet may change."""
    recipe = dataclasses.replace(recipe, stages=recipe.stages[: number + 1])
    marker = folder / "recipe.json"
    if marker.exists() and parse_recipe(json.loads(marker.read_text("utf-8"))) != recipe:
        raise UsageError(
            f"{folder} was begun with a different recipe; give another --output, or delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(dataclasses.asdict(recipe), indent=1), "utf-8")


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """One folder that this package, transformers and the hub understand."""
    implementation = model.config._attn_implementation
    model.config._attn_implementation = "sdpa"
    model.save_pretrained(folder)
    model.config._attn_implementation = implementation
    tokenizer.save_pretrained(folder)
