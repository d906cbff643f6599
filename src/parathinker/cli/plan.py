"""The table of ``parathinker train --dry-run``."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import typer

from parathinker.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from parathinker.training.plan import Plan, StagePlan
    from parathinker.training.recipe import Recipe

_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def show_plan(
    recipe: Recipe, gpus: int, gpu_memory: str, flops: float | None, mfu: float, as_json: bool
) -> None:
    """Work out and print what a recipe takes."""
    from parathinker.training.plan import Hardware, plan

    hardware = Hardware(gpus, read_size(gpu_memory), mfu=mfu)
    if flops is not None:
        hardware = dataclasses.replace(hardware, flops=flops)
    made = plan(recipe, hardware)
    if as_json:
        typer.echo(json.dumps(as_dict(made), indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_head(made))
    for stage in made.stages:
        console.print(_stage(stage, made))
        console.print(_memory(stage, made))
        console.print(_verdict(stage, made))


def read_size(text: str) -> float:
    """Bytes of ``80GB``, ``24 GiB`` and the like.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    units = {name.lower(): size for name, size in _UNITS.items()}
    if found is None or found[2].lower() not in units or float(found[1]) == 0:
        raise UsageError(f"--gpu-memory should be a size such as 80GB or 24GiB, got {text!r}")
    return float(found[1]) * units[found[2].lower()]


def as_dict(made: Plan) -> dict[str, Any]:
    """The plan as JSON shows it, sums included."""
    plain = dataclasses.asdict(made)
    plain["fits"] = made.fits
    for stage, raw in zip(made.stages, plain["stages"], strict=True):
        raw["memory"] = dataclasses.asdict(stage.memory)
        for name in ("memory", "with_checkpointing", "without_checkpointing"):
            raw[name]["total"] = getattr(stage, name).total
    return plain


def _head(made: Plan) -> str:
    counts, hardware = made.parameters, made.hardware
    several = hardware.gpus > 1
    split = {
        "full": f"weights, gradients and optimiser split among {hardware.gpus}",
        "none": "each holds the whole model",
    }
    return (
        f"{made.name}: {counts.total:,} parameters, {counts.trained:,} of them trained "
        f"({counts.trained / counts.total:.1%})\n"
        f"{hardware.gpus} GPU{'s' if several else ''} of {hardware.memory / 1e9:.0f} GB and "
        f"{hardware.flops / 1e12:,.0f} TFLOP/s{f'; {split[made.sharding]}' if several else ''}"
    )


def _stage(stage: StagePlan, made: Plan) -> str:
    data = stage.data
    lines = [f"\nStage {stage.name}: {data.steps:,} steps"]
    if not data.found:
        what = "batches" if data.examples is None else f"{data.examples:,} examples"
        lines.append(
            f"The data or the base's tokenizer is not here: counted as {what} of "
            f"{data.longest:,} tokens, the most they may have, so times below are at most"
        )
    elif data.examples is not None:
        lines.append(
            f"{data.examples:,} examples, {data.tokens:,} tokens an epoch, batches "
            f"{data.fill:.0%} full"
        )
    else:
        lines.append(f"about {data.tokens:,} tokens in all, batches {data.fill:.0%} full")
    if stage.devices < made.hardware.gpus:
        lines.append(f"batches_per_step lets {stage.devices} of the {made.hardware.gpus} GPUs work")
    return "\n".join(lines)


def _memory(stage: StagePlan, made: Plan) -> Table:
    from rich.table import Table

    unit = "GB" if stage.memory.total > 10e9 else "MB"
    table = Table(title=f"{unit} on each GPU", title_justify="left")
    table.add_column("part")
    for name, chosen in (("checkpointing", True), ("no checkpointing", False)):
        mark = " (recipe)" if stage.checkpointing is chosen else ""
        table.add_column(name + mark, justify="right")
    memories = stage.with_checkpointing, stage.without_checkpointing
    for label, field in (
        ("weights", "weights"),
        ("weights to compute with", "working_weights"),
        ("gradients", "gradients"),
        ("optimiser", "optimiser"),
        ("activations", "activations"),
        ("cross-entropy, in chunks", "loss"),
        ("context, workspaces (assumed)", "other"),
        ("together", "total"),
    ):
        if field == "total":
            table.add_section()
        table.add_row(label, *(_in(unit, getattr(memory, field)) for memory in memories))
    return table


def _in(unit: str, size: float) -> str:
    return f"{size / 1e9:.2f}" if unit == "GB" else f"{size / 1e6:,.0f}"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _verdict(stage: StagePlan, made: Plan) -> str:
    hardware = made.hardware
    room = hardware.memory - stage.memory.total
    fits = (
        f"Fits, with {_size(room)} to spare."
        if stage.fits
        else f"Does not fit: {_size(-room)} too much."
    )
    return (
        f"{fits} Without chunks the logits and their gradients would take "
        f"{_size(stage.whole_logits)}.\n"
        f"About {_duration(stage.hours)} if {hardware.mfu:.0%} of the peak is used (an assumption; "
        "--mfu changes it)"
    )


def _duration(hours: float) -> str:
    if hours < 2 / 60:
        return f"{hours * 3600:.0f} seconds"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
