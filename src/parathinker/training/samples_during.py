"""What the model thinks while it trains: a few fixed questions, every so many steps.

The weights of the moment are written to a folder and loaded by the engine that users run, so what
is seen is what they would get. Nothing of it reaches the training: random states are put back, and
the engine has its own copy of the weights.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from parathinker import Answer, ParaThinker, ThinkingParams
from parathinker.errors import ParaThinkerError
from parathinker.modeling.export import write_model
from parathinker.training import checkpoints, distributed
from parathinker.training.recipe import SamplesRecipe
from parathinker.training.trainer import ParaThinkerTrainer

FILE = "samples.jsonl"
SCRATCH = ".sampled-model"
_SHORT = 100


class SampleDuring(TrainerCallback):
    """Thinks about the recipe's questions and shows the answers.

    All of it goes to ``samples.jsonl`` in the stage's folder and, as text, to what the run reports
    to; to ``say`` go the question, and how each path and the summary begin. Where the disk or the
    memory has no room for it, it is left out: training is worth more.
    """

    def __init__(
        self,
        samples: SamplesRecipe,
        trainer: ParaThinkerTrainer,
        tokenizer: Any,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._samples, self._trainer, self._tokenizer = samples, trainer, tokenizer
        self._file, self._scratch, self._say = folder / FILE, folder / SCRATCH, say

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A run that goes on from an earlier step makes the later samples again."""
        if distributed.is_main() and self._file.exists():
            kept = [
                line
                for line in self._file.read_text("utf-8").splitlines(keepends=True)
                if _step(line) <= state.global_step
            ]
            self._file.write_text("".join(kept), "utf-8")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._samples.every:
            return
        with self._trainer.meter.paused(), unchanged_randomness():
            weights = self._trainer.merged_weights()  # of all devices, so all have to ask
            if distributed.is_main():
                try:
                    self._show(self._think(weights), args, state, control)
                except (*checkpoints.SAVING_ERRORS, ParaThinkerError) as error:
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    self._say(f"  no sample at step {state.global_step}: {reason}")
            del weights
            self._trainer.accelerator.wait_for_everyone()

    def _think(self, weights: dict[str, torch.Tensor]) -> list[Answer]:
        samples = self._samples
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            write_model(self._scratch, weights, self._trainer.bare_model())
            self._tokenizer.save_pretrained(self._scratch)
            params = ThinkingParams(
                paths=samples.paths,
                max_path_tokens=samples.max_path_tokens,
                max_summary_tokens=samples.max_summary_tokens,
                temperature=samples.temperature,
                termination="last-finish",
                seed=samples.seed,
                logprobs=False,
            )
            device = str(self._trainer.args.device)
            with ParaThinker.from_pretrained(
                self._scratch, device, threads=torch.get_num_threads()
            ) as model:
                return model.think(list(samples.questions), params)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _show(self, answers: list[Answer], args: Any, state: Any, control: Any) -> None:
        texts = {}
        with self._file.open("a", encoding="utf-8") as file:
            for number, (question, answer) in enumerate(
                zip(self._samples.questions, answers, strict=True), 1
            ):
                paths = [
                    {"text": path.text, "finish_reason": path.finish_reason}
                    for path in answer.paths
                ]
                row = {
                    "step": state.global_step,
                    "question": question,
                    "answer": answer.text,
                    "paths": paths,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                texts[f"sample_{number}"] = _markdown(question, answer)
                self._say(f"  sample at step {state.global_step}: {_short(question)}")
                for path in answer.paths:
                    self._say(
                        f"    path {path.thought_id} ({path.finish_reason}): {_short(path.text)}"
                    )
                self._say(f"    summary ({answer.summary.finish_reason}): {_short(answer.text)}")
        # Not by Trainer.log, which would keep the texts in every checkpoint. The step's figures
        # are logged after this, if they were to be.
        due = control.should_log
        self._trainer.callback_handler.on_log(args, state, control, texts)
        control.should_log = due


@contextmanager
def unchanged_randomness() -> Iterator[None]:
    """Whatever is drawn in here, what is drawn after it is as if it had not been."""
    import numpy

    python, numeric = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(numeric)


def _step(line: str) -> float:
    """Of a row of the file; of one that a kill or a full disk cut short, later than any."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _markdown(question: str, answer: Answer) -> str:
    parts = [f"**{question}**"]
    for path in answer.paths:
        parts.append(f"path {path.thought_id} ({path.finish_reason}):\n\n```\n{path.text}\n```")
    return "\n\n".join([*parts, f"summary:\n\n```\n{answer.text}\n```"])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
