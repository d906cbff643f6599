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

    from parathinker.training.memory import Memory
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
        console.print(_stage(stage))
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
    split = {
        "full": f"weights, gradients and optimiser split among {hardware.gpus}",
        "none": "each holds the whole model",
    }
    return (
        f"{made.name}: {counts.total:,} parameters, {counts.trained:,} of them trained "
        f"({counts.trained / counts.total:.1%})\n"
        f"{hardware.gpus} GPUs of {hardware.memory / 1e9:.0f} GB and "
        f"{hardware.flops / 1e12:,.0f} TFLOP/s; {split[made.sharding]}"
    )


def _stage(stage: StagePlan) -> str:
    data = stage.data
    lines = [f"\nStage {stage.name}: {data.steps:,} steps"]
    if not data.found:
        examples = "" if data.examples is None else f"{data.examples:,} examples "
        lines.append(
            f"The data or the base's tokenizer is not here: counted as {examples}of "
            f"{data.longest:,} tokens, the most they may have, so times below are at most"
        )
    elif data.examples is not None:
        lines.append(
            f"{data.examples:,} examples, {data.tokens:,} tokens an epoch, batches "
            f"{data.fill:.0%} full"
        )
    else:
        lines.append(f"about {data.tokens:,} tokens in all, batches {data.fill:.0%} full")
    return "\n".join(lines)


def _memory(stage: StagePlan, made: Plan) -> Table:
    from rich.table import Table

    table = Table(title="GB on each GPU", title_justify="left")
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
        table.add_row(label, *(_gb(memory, field) for memory in memories))
    return table


def _gb(memory: Memory, field: str) -> str:
    return f"{getattr(memory, field) / 1e9:.2f}"


def _verdict(stage: StagePlan, made: Plan) -> str:
    hardware = made.hardware
    room = hardware.memory - stage.memory.total
    fits = (
        f"Fits, with {room / 1e9:.1f} GB to spare."
        if stage.fits
        else f"Does not fit: {-room / 1e9:.1f} GB too much."
    )
    return (
        f"{fits} Without chunks the logits and their gradients would take "
        f"{stage.whole_logits / 1e9:.1f} GB.\n"
        f"About {_duration(stage.hours)} if {hardware.mfu:.0%} of the peak is used (an assumption; "
        "--mfu changes it)"
    )


def _duration(hours: float) -> str:
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
