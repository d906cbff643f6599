"""Runs small enough for tests: a recipe of a second, and a callback that notes losses."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from parathinker.data.schema import Example, PathText, write_examples
from parathinker.training.recipe import Recipe
from parathinker.training.recipe_yaml import parse_recipe

PRODUCTS = {
    "source": "products",
    "paths": [1, 2],
    "options": {"slip_rates": [0.0, 0.3]},
}
INIT = {
    "init": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
    "tokenizer": "products",
    "max_paths": 4,
    "thought_embedding_std": 0.1,
    "parathinker": {"task": "products"},
}
STAGE = {
    "name": "one",
    "data": PRODUCTS,
    "batch_tokens": 1000,
    "learning_rate": 3e-3,
    "save_steps": 3,
    "logging_steps": 1,
}


def raw_recipe(
    steps: int | None = 8,
    model: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
    **stage: Any,
) -> dict[str, Any]:
    """A recipe as YAML would give it: fresh weights on ``products``, unless said."""
    steps_or_epochs = {} if steps is None else {"steps": steps}
    return {
        "name": "small",
        "model": model or INIT,
        "stages": [{**STAGE, **steps_or_epochs, **stage}],
        **(top or {}),
    }


def recipe(
    steps: int | None = 8,
    model: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
    **stage: Any,
) -> Recipe:
    """The same, checked."""
    return parse_recipe(raw_recipe(steps, model, top, **stage))


def example_files(folder: Path, count: int = 12, paths: Sequence[int] = (1, 2, 3)) -> list[str]:
    """A JSONL file of small examples, no two alike, as a recipe names it."""
    examples = [
        Example(
            f"What is {i} + {i}?",
            tuple(PathText(f"{i} + {i} = {2 * i + k}") for k in range(paths[i % len(paths)])),
            f"It is {2 * i}." if i % 4 else None,
        )
        for i in range(count)
    ]
    file = folder / "examples.jsonl"
    write_examples(file, examples)
    return [str(file)]


class Losses(TrainerCallback):  # type: ignore[misc]
    """Notes the loss of each step; stops the run as a signal would after ``stop_after`` steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.by_step: dict[int, float] = {}
        self.logs: dict[int, dict[str, Any]] = {}
        self._stop_after = stop_after

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.by_step[state.global_step] = float(logs["loss"])
            self.logs[state.global_step] = dict(logs)
