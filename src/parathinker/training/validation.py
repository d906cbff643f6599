"""The loss on examples that are not trained on, every so many steps, by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from parathinker.prompt import PromptCodec
from parathinker.training.batches import INDEX, WORK, Batches
from parathinker.training.loss import LossParts, packed_loss
from parathinker.training.recipe import DataRecipe, StageRecipe, ValidationRecipe
from parathinker.training.samples_during import unchanged_randomness
from parathinker.training.trainer import ParaThinkerTrainer, losses_by_part


def validation_batches(
    asked: ValidationRecipe, stage: StageRecipe, codec: PromptCodec, prefix: str, slack: int
) -> Batches:
    """Its examples once, as batches of the stage's size; thought ids are the same every time.

    Raises:
        UsageError: there are no examples, or none that is short enough.
    """
    data = DataRecipe(
        "examples",
        files=asked.files,
        max_tokens=stage.data.max_tokens,
        fixed_examples=asked.max_examples,
    )
    once = dataclasses.replace(stage, data=data, steps=None, epochs=1.0, batches_per_step=1)
    return Batches(once, codec, seed=0, summary_prefix=prefix, slack=slack)


class Validate(TrainerCallback):
    """Logs ``eval_loss``, ``eval_loss_paths`` and ``eval_loss_summary``: means over tokens."""

    def __init__(self, batches: Batches, every: int, trainer: ParaThinkerTrainer) -> None:
        self._batches, self._every, self._trainer = batches, every, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._every and state.global_step != state.max_steps:
            return
        with self._trainer.meter.paused(), unchanged_randomness():
            figures = losses_by_part(self._measure(), self._trainer.accelerator)
        due = control.should_log
        self._trainer.log({f"eval_{name}": value for name, value in figures.items()})
        control.should_log = due  # the step's own figures are logged after this

    @torch.no_grad()
    def _measure(self) -> LossParts:
        """Of this device's share of the batches."""
        trainer, devices = self._trainer, self._trainer.accelerator.num_processes
        model: Any = trainer.model_wrapped
        bare = trainer.accelerator.unwrap_model(model)
        training, total = model.training, None
        model.eval()
        try:
            # As many forwards on each device, because they may gather weights from each other.
            for first in range(0, len(self._batches), devices):
                index = first + trainer.accelerator.process_index
                batch = dict(self._batches[index % len(self._batches)])
                del batch[INDEX], batch[WORK]
                prepare: Callable[..., dict[str, Any]] = trainer._prepare_inputs
                with trainer.compute_loss_context_manager():
                    _, parts = packed_loss(model, prepare(batch), causal_lm=bare)
                if index < len(self._batches):
                    total = parts if total is None else total + parts
        finally:
            model.train(training)
        return LossParts.none(trainer.args.device) if total is None else total
