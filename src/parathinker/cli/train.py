"""``parathinker train``: run a recipe, or say what it would take."""

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
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Another value than the recipe's, such as model.base=FOLDER or "
            "stages.NAME.steps=100. Can be given several times.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default all cores.")
    ] = None,
    flops: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Peak operations a second of one device, to show utilisation (MFU); by default "
            "the data sheet's where the GPU is a known one, for a plan 312e12, an A800's.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it takes (memory, steps, time), load no weights."),
    ] = False,
    gpus: Annotated[int, typer.Option(min=1, help="For --dry-run: how many GPUs.")] = 8,
    gpu_memory: Annotated[str, typer.Option(help="For --dry-run: of each GPU.")] = "80GB",
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="For --dry-run: assumed utilisation.")
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Train a model into a parallel thinker. A rerun goes on where a broken-off run stopped.

    SIGTERM and Ctrl-C save a checkpoint first; they exit with 0 and 130. For several GPUs start it
    with torchrun or accelerate launch.

    \b
    Examples:
      parathinker train recipes/tiny.yaml --output runs/tiny
      parathinker train recipes/smollm2-lora.yaml --set model.base=FOLDER --set seed=2
      parathinker train recipes/r1-qwen-7b.yaml --dry-run --gpus 8 --gpu-memory 80GB
      accelerate launch --config_file recipes/accelerate/fsdp2.yaml \\
        -m parathinker train recipes/r1-qwen-7b.yaml
    """
    from rich.console import Console

    from parathinker.errors import UsageError
    from parathinker.training.recipe_yaml import read_recipe

    read = read_recipe(recipe, changes or ())
    if as_json and not dry_run:
        raise UsageError("--json goes with --dry-run")
    quiet_transformers()
    import torch

    if dry_run:
        from parathinker.cli.plan import show_plan

        show_plan(read, gpus, gpu_memory, flops, mfu, as_json)
        return
    from parathinker.training import distributed
    from parathinker.training.run import train as run

    # Not on a terminal, lines stay whole.
    console = Console(stderr=True, quiet=not distributed.is_main(), highlight=False, soft_wrap=True)
    folder = output or Path("runs") / read.name
    if threads is not None:
        torch.set_num_threads(threads)
    watch = f" (watch it: tensorboard --logdir {folder})" if "tensorboard" in read.report_to else ""
    console.print(f"Training {read.name} into {folder}{watch}")
    stopped = "Stopped; a checkpoint is saved. The same command goes on from there."

    def say(line: str) -> None:
        console.print(line, markup=False)

    try:
        done = run(read, folder, (_progress(console),), say=say, peak_flops=flops)
    except KeyboardInterrupt:
        console.print(stopped)
        raise
    if not done:
        console.print(stopped)
    elif read.model.lora is not None:
        console.print(
            f"Done: {folder / 'model'}, an adapter. Make a model of it and its base with: "
            f"parathinker models export {folder} --output MODEL"
        )
    else:
        console.print(f"Done: {folder / 'model'}")


def quiet_transformers() -> None:
    """Silence transformers' reports, once it is sure that training is installed."""
    from importlib.util import find_spec

    from parathinker.errors import MissingExtraError
    from parathinker.modeling.gguf import transformers_quietly

    if any(find_spec(name) is None for name in ("accelerate", "peft", "transformers", "yaml")):
        raise MissingExtraError("training", "train")
    transformers_quietly()


def _progress(console: Console) -> Any:
    """A line for each log entry: stage, step, losses, speed, time left."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.stage = Path(args.output_dir).name
            self.began, self.first = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or not state.is_world_process_zero:
                return
            if "eval_loss" in logs:
                figures = {name.removeprefix("eval_"): value for name, value in logs.items()}
                console.print(
                    f"{self.stage}: step {state.global_step}/{state.max_steps}  validation: "
                    f"{progress_figures(figures)}",
                    markup=False,
                )
            if "loss" not in logs:
                return
            pace = (time.monotonic() - self.began) / max(1, state.global_step - self.first)
            left = pace * (state.max_steps - state.global_step)
            console.print(
                f"{self.stage}: step {state.global_step}/{state.max_steps}  "
                f"{progress_figures(logs)}  {_left(left)} left",
                markup=False,
                soft_wrap=True,
            )

    return Progress()


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


_FIGURES = (
    ("loss", "loss {:.4f}"),
    ("loss_paths", "paths {:.4f}"),
    ("loss_summary", "summary {:.4f}"),
    ("grad_norm", "gradient {:.2f}"),
    ("learning_rate", "lr {:.1e}"),
    ("tokens_per_second", "{:,.0f} tokens/s"),
    ("mfu", "MFU {:.1%}"),
    ("peak_memory_gb", "{:.1f} GB"),
)


def progress_figures(logs: dict[str, Any]) -> str:
    """A log entry's figures in one line; those that are not there are left out."""
    return "  ".join(form.format(float(logs[name])) for name, form in _FIGURES if name in logs)
