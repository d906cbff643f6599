"""``parathinker diagnose``: why a model answers as it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parathinker.backends.arguments import read_arguments
from parathinker.cli import measuring as m

if TYPE_CHECKING:
    from parathinker.diagnostics.findings import Findings
    from parathinker.evaluation.models import Watch

diagnose = typer.Typer(no_args_is_help=True)

Benchmark = Annotated[str | None, m.option(f"{m.BENCHMARKS}. [default: products]")]
Paths = Annotated[int, typer.Option(help="P, how many paths think side by side.")]
Output = Annotated[
    Path | None,
    m.option("The diagnosis's folder. [default: runs/NAME]", "--output", "-o", metavar="DIR"),
]


@diagnose.callback()
def root() -> None:
    """Find out why a model answers as it does.

    Each diagnosis writes report.md, report.json and a plot into its folder. One that was stopped
    goes on where it was.

    \b
    Examples:
      parathinker diagnose tunnel-vision --limit 100 --budget 288 --summary-tokens 32
      parathinker diagnose ablations --model M --benchmark amc23 --data-only FOLDER
    """


@diagnose.command("tunnel-vision")
def tunnel_vision(
    model: m.Model = None,
    benchmark: Benchmark = None,
    prefix_tokens: Annotated[
        str | None,
        m.option(
            "Tokens to force, with commas. [default: 0, 1/16, 1/8, 1/4, 1/2, 3/4 of the median "
            "wrong path]"
        ),
    ] = None,
    continuations: Annotated[
        int, typer.Option(help="Fresh attempts of one chain behind each prefix.")
    ] = 4,
    wrong_paths: Annotated[
        int | None,
        m.option("Wrong paths of each question, drawn at random. [default: all]"),
    ] = None,
    paths: Paths = 8,
    budget: m.Budget = None,
    summary_tokens: m.SummaryTokens = None,
    samples: m.Samples = None,
    limit: m.Limit = None,
    temperature: m.Temperature = None,
    top_p: m.TopP = None,
    seed: m.Seed = None,
    prompt: m.Prompt = None,
    option: m.TaskOption = None,
    split: m.Split = None,
    subset: m.Subset = None,
    weights: m.Weights = None,
    device: m.Device = None,
    backend: m.Backend = None,
    engine_arg: m.EngineArg = None,
    output: Output = None,
    as_json: m.AsJson = False,
) -> None:
    """Whether a model recovers once it has begun on a flawed path, and whether P paths help.

    Beginnings of the model's own wrong paths are forced on fresh attempts.

    \b
    Example:
      parathinker diagnose tunnel-vision --limit 100 --budget 288 --summary-tokens 32 -o runs/tunnel
    """
    from parathinker.diagnostics import tunnel_vision as diagnosis

    settings = _settings(locals())
    forced = m.whole_numbers(prefix_tokens, "--prefix-tokens") if prefix_tokens else None
    _run(
        lambda folder, watch: diagnosis.run(
            settings, folder, forced, continuations, wrong_paths, watch
        ),
        output or Path("runs") / diagnosis.NAME,
        as_json,
    )


@diagnose.command()
def budget(
    model: m.Model = None,
    benchmark: Benchmark = None,
    budgets: Annotated[
        str | None, m.option("Budgets, with commas. [default: powers of two up to --budget]")
    ] = None,
    budget: Annotated[
        int | None, m.option("The largest budget, in tokens. [default: of --budgets, or 16384]")
    ] = None,
    samples: m.Samples = None,
    limit: m.Limit = None,
    temperature: m.Temperature = None,
    top_p: m.TopP = None,
    seed: m.Seed = None,
    prompt: m.Prompt = None,
    option: m.TaskOption = None,
    split: m.Split = None,
    subset: m.Subset = None,
    weights: m.Weights = None,
    device: m.Device = None,
    backend: m.Backend = None,
    engine_arg: m.EngineArg = None,
    output: Output = None,
    as_json: m.AsJson = False,
) -> None:
    """Accuracy of one chain against its token budget, and where it stops growing.

    Once as the chain ends by itself, and once with "Wait" wherever it would.

    \b
    Example:
      parathinker diagnose budget --limit 100 --budget 288 -o runs/budget
    """
    from parathinker.diagnostics import budget as diagnosis

    swept = m.whole_numbers(budgets, "--budgets") if budgets else None
    largest = budget if budget is not None or not swept else max(swept)
    # A single chain has no summary to set tokens aside for.
    settings = _settings({**locals(), "paths": 1, "budget": largest, "summary_tokens": 2})
    _run(
        lambda folder, watch: diagnosis.run(settings, folder, swept, watch),
        output or Path("runs") / diagnosis.NAME,
        as_json,
    )


@diagnose.command()
def ablations(
    model: m.Model = None,
    benchmark: Benchmark = None,
    variant: Annotated[
        list[str] | None,
        m.option("A model that was trained otherwise; may be given again.", metavar="NAME=FOLDER"),
    ] = None,
    data_only: Annotated[
        str | None,
        m.option("A model trained on the data as one chain, measured as one.", metavar="FOLDER"),
    ] = None,
    paths: Paths = 8,
    budget: m.Budget = None,
    summary_tokens: m.SummaryTokens = None,
    samples: m.Samples = None,
    limit: m.Limit = None,
    temperature: m.Temperature = None,
    top_p: m.TopP = None,
    seed: m.Seed = None,
    prompt: m.Prompt = None,
    option: m.TaskOption = None,
    split: m.Split = None,
    subset: m.Subset = None,
    weights: m.Weights = None,
    device: m.Device = None,
    backend: m.Backend = None,
    engine_arg: m.EngineArg = None,
    output: Output = None,
    as_json: m.AsJson = False,
) -> None:
    """What each part of the method is worth: the model with a part taken away.

    Without thought embeddings, with flattened positions, with the paths prefilled again; and
    models that were trained otherwise.

    \b
    Example:
      parathinker diagnose ablations --limit 100 --budget 288 --summary-tokens 32 -o runs/ablations
    """
    from parathinker.diagnostics import ablations as diagnosis

    settings = _settings(locals())
    variants = m.named(variant or [], "--variant")
    _run(
        lambda folder, watch: diagnosis.run(settings, folder, variants, data_only, watch),
        output or Path("runs") / diagnosis.NAME,
        as_json,
    )


@diagnose.command()
def diversity(
    model: m.Model = None,
    benchmark: Benchmark = None,
    paths: Annotated[
        str, typer.Option(help="Widths of vote and summary; pass@P is for each P up to the widest.")
    ] = "1,2,4,8",
    budget: m.Budget = None,
    summary_tokens: m.SummaryTokens = None,
    samples: m.Samples = None,
    limit: m.Limit = None,
    temperature: m.Temperature = None,
    top_p: m.TopP = None,
    seed: m.Seed = None,
    prompt: m.Prompt = None,
    option: m.TaskOption = None,
    split: m.Split = None,
    subset: m.Subset = None,
    weights: m.Weights = None,
    device: m.Device = None,
    backend: m.Backend = None,
    engine_arg: m.EngineArg = None,
    output: Output = None,
    as_json: m.AsJson = False,
) -> None:
    """How different a question's paths are, and how much of what they know is answered.

    \b
    Example:
      parathinker diagnose diversity --limit 100 --budget 288 --summary-tokens 32 -o runs/diversity
    """
    from parathinker.diagnostics import diversity as diagnosis

    settings = _settings({**locals(), "paths": m.whole_numbers(paths, "--paths")})
    _run(
        lambda folder, watch: diagnosis.run(settings, folder, watch),
        output or Path("runs") / diagnosis.NAME,
        as_json,
    )


_SETTINGS = (
    "model",
    "budget",
    "summary_tokens",
    "samples",
    "limit",
    "temperature",
    "top_p",
    "seed",
    "prompt",
    "split",
    "subset",
    "weights",
    "device",
    "backend",
)


def _settings(options: dict[str, Any]) -> Any:
    """An evaluation's settings from a command's options; what was not given is left to them."""
    from parathinker.evaluation.settings import EvalSettings

    chosen = {name: options[name] for name in _SETTINGS if options[name] is not None}
    widths = options["paths"]
    chosen["paths"] = [widths] if isinstance(widths, int) else widths
    if options["benchmark"]:
        chosen["benchmarks"] = options["benchmark"].split(",")
    if options["option"]:
        chosen["task_options"] = m.named(options["option"], "--option")
    if options["engine_arg"]:
        chosen["engine_args"] = read_arguments(options["engine_arg"])
    return EvalSettings.from_mapping(chosen, "options")


def _run(measure: Callable[[Path, Watch], Findings], folder: Path, as_json: bool) -> None:
    from rich.console import Console

    from parathinker.diagnostics.findings import check_folder, write_report

    console = Console(stderr=True)
    check_folder(folder)
    with m.bars(console) as watch:
        found = measure(folder, watch)
    report = write_report(found, folder)
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
    else:
        _show(found)
    console.print(f"Report: {report}", markup=False, soft_wrap=True)


def _show(found: Findings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(title=Text(found.title), title_justify="left")
    for i, heading in enumerate(found.headings):
        table.add_column(Text(heading), justify="right" if i else "left")
    last = None
    for row in found.rows:
        if last not in (None, row[0]) and _grouped(found):
            table.add_section()
        table.add_row(*map(Text, (("", *row[1:]) if row[0] == last else row)))
        last = row[0]
    console.print(table)
    for note in found.notes:
        console.print(f"· {note}", markup=False)


def _grouped(found: Findings) -> bool:
    """Whether rows come in groups that begin alike."""
    return len({row[0] for row in found.rows}) < len(found.rows)
