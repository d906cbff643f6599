"""``parathinker data inspect`` and ``parathinker data stats``: what is in a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parathinker.cli.outcome import printable
from parathinker.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from parathinker.data.build.lengths import TokenCounter
    from parathinker.data.look.stats import Stats
    from parathinker.data.schema import Example

ONLY = ("right", "wrong", "mixed")
IN_TERMINAL, ON_PAGE = 10, 200
_SHOWN_QUESTION, _SHOWN_SUMMARY = 160, 60
"""Characters in the table: a question's first, a summary's last, where its answer is."""

Dataset = Annotated[
    Path,
    typer.Argument(
        help="A built dataset's folder, a .jsonl or .parquet file of examples, or a store of "
        "samples."
    ),
]
Split = Annotated[
    str | None, typer.Option(help="train, validation or test; by default all.", show_default=False)
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        help="Count lengths with the tokenizer in this folder; it also reads examples in token "
        "ids that have none beside them.",
        show_default=False,
    ),
]


def inspect(
    dataset: Dataset,
    split: Split = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Show this example in full.", show_default=False)
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="right: no wrong path; wrong: no right one; mixed: both.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Examples to show; by default {IN_TERMINAL}, or {ON_PAGE} on a page.",
            show_default=False,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", help="Write a web page to read them on.", show_default=False),
    ] = None,
    tokenizer: Tokenizer = None,
) -> None:
    """Look at a dataset's examples.

    \b
    Examples:
      parathinker data inspect dataset --only mixed
      parathinker data inspect dataset --id 5f2b9c1d00aa34ee
      parathinker data inspect dataset --html dataset.html --limit 500
      parathinker data inspect samples.sqlite
    """
    from rich.console import Console

    from parathinker.data.build.lengths import TokenCounter
    from parathinker.data.look.reading import examples_of

    if only is not None and only not in ONLY:
        raise UsageError(f"--only should be one of {', '.join(ONLY)}; got {only!r}")
    counter = None if tokenizer is None else TokenCounter(tokenizer)
    wanted = (
        one
        for one in examples_of(dataset, split, tokenizer)
        if identifier in (None, one.id) and (only is None or kind_of(one) == only)
    )
    shown = list(islice(wanted, limit or (IN_TERMINAL if page is None else ON_PAGE)))
    if not shown:
        raise UsageError(f"{dataset} has no such example")
    console = Console(highlight=False, markup=False)
    if page is not None:
        _write_page(page, shown, dataset)
        more = " (the first; --limit says how many)" if next(wanted, None) is not None else ""
        size = f"{page.stat().st_size / 1e6:,.1f} MB"
        console.print(f"Wrote {page} with {len(shown):,} examples{more}, {size}", soft_wrap=True)
    elif identifier is not None:
        for example in shown:
            _show_whole(console, example, counter)
    else:
        _show_table(console, shown, counter)
        if next(wanted, None) is not None:
            console.print("There are more; --limit shows them, --id one of them in full.")


def stats(
    dataset: Dataset,
    split: Split = None,
    tokenizer: Tokenizer = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Draw plots into this folder, PNG and SVG.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a dataset: counts, lengths, shares of right paths, and what repeats itself.

    \b
    Examples:
      parathinker data stats dataset
      parathinker data stats dataset --tokenizer model --plots figures
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from parathinker.data.build.lengths import TokenCounter
    from parathinker.data.look.reading import examples_of
    from parathinker.data.look.stats import measure

    counter = None if tokenizer is None else TokenCounter(tokenizer)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} examples"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def watched() -> Iterator[Example]:
            for example in examples_of(dataset, split, tokenizer):
                yield example
                bar.advance(task)

        measured = measure(watched(), counter)
    drawn: list[Path] = []
    if plots is not None:
        from parathinker.data.look.plots import draw

        drawn = draw(measured, plots)
    if as_json:
        typer.echo(json.dumps({**measured.to_dict(), "plots": list(map(str, drawn))}, indent=1))
        return
    _show_stats(Console(highlight=False, markup=False), measured, dataset)
    if drawn:
        typer.echo(f"Drew {len(drawn)} plots into {plots}")


def kind_of(example: Example) -> str:
    """``right``, ``wrong`` or ``mixed``, by the paths that were checked; else ``unchecked``."""
    verdicts = {path.correct for path in example.paths} - {None}
    if verdicts == {True, False}:
        return "mixed"
    return {True: "right", False: "wrong"}[verdicts.pop() or False] if verdicts else "unchecked"


def _write_page(file: Path, examples: list[Example], dataset: Path) -> None:
    from parathinker.data.look.page import page

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(examples, dataset.resolve().name), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def _show_table(console: Console, examples: list[Example], counter: TokenCounter | None) -> None:
    from rich.table import Table

    table = Table(show_lines=True)
    table.add_column("id", no_wrap=True)  # to be copied to --id
    table.add_column("question", overflow="fold", ratio=3)
    table.add_column("paths", no_wrap=True)
    table.add_column("characters" if counter is None else "tokens", justify="right", no_wrap=True)
    table.add_column("summary", overflow="fold", ratio=2)
    for example in examples:
        verdicts = [path.correct for path in example.paths]
        counts = ((True, "right"), (False, "wrong"), (None, "not checked"))
        found = [f"{verdicts.count(which)} {name}" for which, name in counts if which in verdicts]
        table.add_row(
            example.id,
            _short(example.question),
            "\n".join([str(len(verdicts)), *found]),
            f"{_length(example, counter):,}",
            _end(example.summary or ""),
        )
    console.print(table)


def _show_whole(console: Console, example: Example, counter: TokenCounter | None) -> None:
    console.print(printable(example.question), soft_wrap=True)
    known = "unknown" if example.answer is None else printable(example.answer)
    console.print(f"\nanswer: {known} · {example.split} · {example.source or 'unknown source'}")
    for number, path in enumerate(example.paths, 1):
        verdict = {True: "right", False: "wrong", None: "not checked"}[path.correct]
        facts = [verdict, f"answers {printable(path.answer or 'nothing')}"]
        if counter is not None:
            facts.append(f"{counter.path(path.text):,} tokens")
        if not path.learn:
            facts.append("only read")
        elif path.given:
            facts.append(f"its first {path.given:,} characters given")
        console.print(f"\n[path {number}: {', '.join(facts)}]", style="bold")
        console.print(printable(path.text), soft_wrap=True)
    console.print("\n[summary]", style="bold")
    console.print(printable(example.summary or "(none)"), soft_wrap=True)


def _show_stats(console: Console, stats: Stats, dataset: Path) -> None:
    from rich.table import Table

    from parathinker.data.look.stats import LENGTHS, Spread, share_histogram

    facts = Table(show_header=False, title=str(dataset), title_justify="left")
    rows = [
        ("examples", _counts(stats.splits)),
        ("sources", _counts(stats.sources)),
        ("paths", f"{stats.paths:,}: {stats.right:,} right, {stats.wrong:,} wrong, "
         f"{stats.unchecked:,} not checked; {stats.learned:,} to be learned"),
        ("paths of an example", ", ".join(
            f"{n}: {k:,}" for n, k in sorted(stats.paths_per_example.items()))),
        ("share of right paths", ", ".join(
            f"{name}: {n:,}" for name, n in share_histogram(stats.right_shares))),
        ("summaries", f"{stats.summaries:,}"),
        ("repeated questions", f"{stats.duplicate_questions:,} the same, "
         f"{stats.similar_questions:,} much alike"),
        ("repeated paths", f"{stats.similar_paths:,} much like another of their example"),
        ("of a benchmark", f"{stats.contaminated:,} examples"),
    ]  # fmt: skip
    for row in rows:
        facts.add_row(*row)
    console.print(facts)
    lengths = Table(title=f"Lengths, {stats.unit}", title_justify="left")
    lengths.add_column("of")
    for name in ("least", "median", "mean", "95 %", "most", "total"):
        lengths.add_column(name, justify="right")
    for what in LENGTHS:
        if values := stats.lengths.get(what):
            spread = Spread.of(values)
            figures = [spread.least, spread.median, spread.mean, spread.p95, spread.most]
            figures += [] if what == "positions" else [spread.total]  # which stand side by side
            lengths.add_row(what, *(f"{figure:,.0f}" for figure in figures))
    console.print(lengths)


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name}: {n:,}" for name, n in sorted(counter.items()))


def _length(example: Example, counter: TokenCounter | None) -> int:
    if counter is not None:
        return counter.example(example).total
    return sum(len(path.text) for path in example.paths) + len(example.summary or "")


def _short(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= _SHOWN_QUESTION else f"{line[: _SHOWN_QUESTION - 1]}…"


def _end(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= _SHOWN_SUMMARY else f"…{line[1 - _SHOWN_SUMMARY :]}"
