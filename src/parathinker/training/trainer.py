"""transformers' ``Trainer`` with this package's batches, loss, checkpoints and figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer

from parathinker.modeling.adapter import is_peft, merged_weights
from parathinker.training import checkpoints
from parathinker.training.batch import IGNORED
from parathinker.training.batches import INDEX, WORK, Batches
from parathinker.training.flops import training_flops
from parathinker.training.health import diverged
from parathinker.training.loss import LossParts, packed_loss
from parathinker.training.meter import Meter


class ParaThinkerTrainer(Trainer):
    """``Trainer`` with weighted losses, divided by the labelled tokens of the whole step.

    Args:
        meter: measures speed.
        keep: checkpoints to keep.
        add_papers: adds to a folder with weights what makes a model or an adapter of them.
        options: of ``Trainer``; ``train_dataset`` is a :class:`Batches`.
    """

    model_accepts_loss_kwargs = True

    def __init__(
        self, meter: Meter, keep: int, add_papers: Callable[[Path], None], **options: Any
    ) -> None:
        super().__init__(data_collator=_only_item, **options)
        self.meter = meter
        self._keep, self._add_papers = keep, add_papers
        self._folder = Path(str(self.args.output_dir))
        self._scratch: Path | None = None
        self._step_batches: list[int] = []
        self._parts: LossParts | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        bare = self.accelerator.unwrap_model(model)
        total, parts = packed_loss(model, inputs, causal_lm=bare)
        self._parts = parts if self._parts is None else self._parts + parts
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["shift_labels"] != IGNORED).sum()
        # A step may hold nothing but flawed paths, which teach nothing: 0, not 0 / 0.
        loss = total / torch.clamp(torch.as_tensor(num_items_in_batch), min=1e-6)
        return (loss, None) if return_outputs else loss

    def training_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """A batch forward and backward; what is not finite ends the run."""
        inputs = dict(inputs)
        index, work = inputs.pop(INDEX), inputs.pop(WORK)
        self._step_batches.append(index)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise self._diverged("loss", float(loss), [index])
        self.meter.add(work)
        return loss

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Any]], device: torch.device
    ) -> Tensor | None:
        """Labelled tokens of the step on all devices, divided by the number of devices.

        Gradients are averaged over devices, so each one's share of the loss counts that often.
        """
        if not batch_samples:
            return None
        local = torch.stack([(b["shift_labels"] != IGNORED).sum() for b in batch_samples]).sum()
        everywhere: Tensor = self.accelerator.reduce(local.to(device), "sum")
        share: Tensor = everywhere / self.accelerator.num_processes
        return share

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient's norm, known before the optimiser uses it."""
        norm: Any = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        batches, self._step_batches = self._step_batches, []
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)).all():
            raise self._diverged("gradient's norm", float(norm), batches)
        return norm

    def _diverged(self, what: str, value: float, indices: list[int]) -> Exception:
        batches = self.train_dataset
        assert isinstance(batches, Batches)
        return diverged(what, value, self.state.global_step + 1, indices, batches, self._folder)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Counted by what sees what, not by the row's length."""
        return int(training_flops(self.meter.config, inputs[WORK], self.meter.frozen))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss by part, and speed and memory."""
        if "loss" in logs:
            logs |= self._losses_by_part() | self.meter.read(self.accelerator)
        super().log(logs, start_time)

    def _losses_by_part(self) -> dict[str, float]:
        """Since the last entry; the loss itself is Trainer's."""
        parts, self._parts = self._parts, None
        if parts is None:
            return {}
        figures = losses_by_part(parts, self.accelerator)
        return {name: value for name, value in figures.items() if name != "loss"}

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """In order: :class:`Batches` has drawn it already."""
        batches: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(batches)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._scratch or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write it aside; it gets its name once it is whole on the disk."""
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        with self.meter.paused():
            self._scratch = self._folder / checkpoints.SCRATCH
            try:
                if self.args.should_save:
                    shutil.rmtree(self._scratch, ignore_errors=True)
                    self._scratch.mkdir()
                self.accelerator.wait_for_everyone()
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    checkpoints.publish(self._scratch / name, self._folder, self._keep)
                self.accelerator.wait_for_everyone()
            except checkpoints.SAVING_ERRORS as error:
                what = f"the checkpoint of step {self.state.global_step}"
                raise checkpoints.not_saved(what, error, self._folder) from error
            finally:
                self._scratch = None

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights for resuming, which others can open too; of adapters nothing but the adapter."""
        if not self.args.should_save:
            return
        folder = str(output_dir or self.args.output_dir)
        options = {"save_embedding_layers": False} if is_peft(self.model) else {}
        self.accelerator.unwrap_model(self.model).save_pretrained(
            folder, state_dict=state_dict, **options
        )
        self._add_papers(Path(folder))

    def whole_weights(self) -> dict[str, Tensor]:
        """The model's weights on this device, put together from all devices; all have to ask."""
        weights: dict[str, Tensor] = self.accelerator.get_state_dict(self.model_wrapped)
        return weights

    def merged_weights(self) -> dict[str, Tensor]:
        """The same with adapters worked in, named as without them."""
        weights = self.whole_weights()
        model = self.accelerator.unwrap_model(self.model_wrapped)
        return merged_weights(model, weights) if is_peft(model) else weights

    def bare_model(self) -> Any:
        """The transformers model inside all that trains it."""
        model = self.accelerator.unwrap_model(self.model_wrapped)
        return model.get_base_model() if is_peft(model) else model


def losses_by_part(parts: LossParts, accelerator: Any) -> dict[str, float]:
    """Means over the tokens of all devices: of all, of paths, of summaries; all have to ask."""
    sums = torch.stack([parts.paths, parts.path_tokens, parts.summary, parts.summary_tokens])
    paths, path_tokens, summary, summary_tokens = accelerator.reduce(sums.double(), "sum").tolist()
    found = {}
    if path_tokens or summary_tokens:
        found["loss"] = (paths + summary) / (path_tokens + summary_tokens)
    if path_tokens:
        found["loss_paths"] = paths / path_tokens
    if summary_tokens:
        found["loss_summary"] = summary / summary_tokens
    return found


def _only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator of a dataset whose items are batches."""
    return items[0]
