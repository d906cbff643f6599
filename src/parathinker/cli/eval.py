"""``parathinker eval``: compare ways to spend the same tokens, and report what came of it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parathinker.backends.arguments import read_arguments
from parathinker.cli import measuring as m
from parathinker.cli.eval_report import report

if TYPE_CHECKING:
    from parathinker.evaluation.settings import EvalSettings
    from parathinker.evaluation.tables import Paired, Results, Row

evaluate = typer.Typer(invoke_without_command=True)
evaluate.command("report")(report)
DEFAULT_OUTPUT = Path("runs/eval")


@evaluate.callback()
def run(
    context: typer.Context,
    config: Annotated[
        Path | None, m.option("YAML file with settings; other options win over it.", metavar="FILE")
    ] = None,
    model: m.Model = None,
    benchmark: Annotated[
        str | None,
        m.option(f"With commas: {m.BENCHMARKS}. [default: products]"),
    ] = None,
    methods: Annotated[
        str | None,
        m.option(
            "With spaces or semicolons where a method has options, else with commas: sequential, "
            "majority, confidence, short, best, reprefill, tree, parallel, flat-positions, "
            "withheld, shuffled; options as parallel:termination=last-finish, another model as "
            "sequential:model=FOLDER. "
            "[default: sequential,majority,parallel]"
        ),
    ] = None,
    paths: Annotated[str | None, m.option("Widths to compare at. [default: 1,2,4,8]")] = None,
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
    latency_questions: Annotated[
        int | None, m.option("Questions to time one by one; 0 times none. [default: 3]")
    ] = None,
    weights: m.Weights = None,
    device: m.Device = None,
    backend: m.Backend = None,
    engine_arg: m.EngineArg = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The run's folder.")
    ] = DEFAULT_OUTPUT,
    as_json: m.AsJson = False,
) -> None:
    """Measure a model: several methods at the same token budgets, on the same sampled paths.

    A run that was stopped goes on where it was; more methods, widths, questions or samples can be
    added to a run later, and nothing is sampled twice.

    \b
    Examples:
      parathinker eval --limit 100 --budget 288 --summary-tokens 32 -o runs/tiny
      parathinker eval --model M --benchmark aime24,math500 --paths 1,8 --samples 16 -o runs/paper
      parathinker eval --model M --methods "parallel majority:model=BASE" --paths 8 -o runs/paper
      parathinker eval report runs/tiny
    """
    if context.invoked_subcommand is not None:
        return
    from parathinker.evaluation.settings import EvalSettings

    base = EvalSettings.from_yaml(config).to_dict() if config else {}
    given: dict[str, Any] = {
        "model": model,
        "benchmarks": [one.strip() for one in benchmark.split(",")] if benchmark else None,
        "methods": split_methods(methods) if methods else None,
        "paths": m.whole_numbers(paths, "--paths") if paths else None,
        "budget": budget,
        "summary_tokens": summary_tokens,
        "samples": samples,
        "limit": limit,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "prompt": prompt,
        "split": split,
        "subset": subset,
        "latency_questions": latency_questions,
        "weights": weights,
        "device": device,
        "backend": backend,
    }
    if engine_arg:
        given["engine_args"] = read_arguments(engine_arg)
    if option:
        given["task_options"] = m.named(option, "--option")
    chosen = {name: value for name, value in given.items() if value is not None}
    _run(EvalSettings.from_mapping({**base, **chosen}), output, as_json)


def split_methods(text: str) -> list[str]:
    """Methods from one option: commas separate them, but not the options of one of them."""
    parts: list[str] = []
    for part in re.sub(r"\s*,\s*", " ,", text.replace(";", " ")).split():
        if part.startswith(",") and "=" in part.partition(":")[0] and parts:
            parts[-1] += part
        else:
            parts.append(part.lstrip(","))
    return [part for part in parts if part]


def _run(settings: EvalSettings, folder: Path, as_json: bool) -> None:
    from rich.console import Console

    from parathinker.evaluation.report.text import unscored
    from parathinker.evaluation.run import run as run_evaluation
    from parathinker.evaluation.store import RunStore
    from parathinker.evaluation.tables import Results, without_nan

    console = Console(stderr=True)
    with m.bars(console) as watch:
        left_out = run_evaluation(settings, folder, watch)
    with RunStore(folder) as store:
        results = Results(store)
    notes = [*left_out, *(reason for reason in results.left_out if reason not in left_out)]
    if results.unscored:
        notes.append(f"could not be scored, and count as wrong: {unscored(results.unscored)}")
    for note in notes:
        console.print(f"Note: {note}", style="yellow", soft_wrap=True, markup=False)
    rows, paired = results.rows(), results.paired()
    if as_json:
        found = {
            "model": results.model,
            "settings": results.settings,
            "left_out": results.left_out,
            "unscored": results.unscored,
            "rows": [dataclasses.asdict(row) for row in rows],
            "paired": [dataclasses.asdict(one) for one in paired],
        }
        typer.echo(json.dumps(without_nan(found), indent=1))
    else:
        _show(results, rows, paired)
        console.print(f"Kept in {folder}", soft_wrap=True)


def _show(results: Results, rows: list[Row], paired: list[Paired]) -> None:
    from rich.console import Console
    from rich.table import Table

    from parathinker.evaluation.tables import percent

    console = Console()
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        own = [row for row in rows if row.benchmark == benchmark]
        table = Table(
            title=f"{results.model.split()[0]} on {benchmark}, {own[0].accuracy.questions} "
            f"questions × {own[0].replicates}: accuracy in % ± standard error"
        )
        table.add_column("P × budget", justify="right")
        table.add_column("method")
        for name in ("accuracy", "tokens", "in a row", "seconds"):
            table.add_column(name, justify="right")
        last = None
        for row in own:
            if last not in (None, row.width):
                table.add_section()
            table.add_row(
                f"{row.width} × {results.settings['budget']}" if row.width != last else "",
                row.method,
                percent(row.accuracy),
                f"{row.path_tokens + row.summary_tokens:,.0f}",
                f"{row.depth:,.0f}",
                "" if row.latency_s is None else f"{row.latency_s:.2f}",
            )
            last = row.width
        console.print(table)
    for one in paired:
        c = one.comparison
        if one.method.startswith("parallel"):
            console.print(
                f"{one.benchmark}, P = {one.width}: {one.method} − {one.reference} "
                f"{100 * c.difference:+.1f} ± {100 * c.error:.1f} points, p = {c.p_flipped:.2g}",
                soft_wrap=True,
            )
