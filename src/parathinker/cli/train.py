"""``parathinker train``: run a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    output: Annotated[
        Path | None, typer.Option(help="Where checkpoints and the model go; default runs/NAME.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default all cores.")
    ] = None,
) -> None:
    """Train a model into a parallel thinker. A rerun goes on where a broken-off run stopped.

    SIGTERM and Ctrl-C save a checkpoint first; they exit with 0 and 130.

    Example: parathinker train recipes/tiny.yaml --output runs/tiny
    """
    from rich.console import Console

    from parathinker.errors import MissingExtraError
    from parathinker.training.recipe import read_recipe

    console = Console(stderr=True)
    read = read_recipe(recipe)
    folder = output or Path("runs") / read.name
    try:
        import torch
        import transformers

        from parathinker.training.trainer import train as run
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    # Its reports name thought embeddings as unexpected tensors before they are attached.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    console.print(f"Training {read.name} into {folder} (watch it: tensorboard --logdir {folder})")
    stopped = "Stopped; a checkpoint is saved. The same command goes on from there."
    try:
        done = run(read, folder, (_progress(console),))
    except KeyboardInterrupt:
        console.print(stopped)
        raise
    console.print(f"Done: {folder / 'model'}" if done else stopped)


def _progress(console: Console) -> Any:
    """A line for each log entry: stage, step, loss, time left."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.stage = Path(args.output_dir).name
            self.began, self.first = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            pace = (time.monotonic() - self.began) / max(1, state.global_step - self.first)
            left = pace * (state.max_steps - state.global_step)
            console.print(
                f"{self.stage}: step {state.global_step}/{state.max_steps}  "
                f"loss {float(logs['loss']):.4f}  {left / 60:.0f} min left"
            )

    return Progress()
