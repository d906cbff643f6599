"""A dataset's ``README.md``: a Hugging Face dataset card of what a build did."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from parathinker.data.build.report import BuildReport
from parathinker.data.build.settings import BuildSettings
from parathinker.data.sources import NICKNAMES

_LICENCES = {
    "openr1": "apache-2.0",
    "deepmath": "mit",
    "s1k": "apache-2.0",
    "s1k-1.1": "mit",
    "limo": "apache-2.0",
    "reasoning-gym": "apache-2.0",
}
"""Of questions, as their pages on the hub or their package state it."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def dataset_card(report: BuildReport, name: str) -> str:
    """The text of ``README.md``."""
    from huggingface_hub import DatasetCardData

    total = sum(counts.examples for counts in report.splits.values())
    licences = sorted({licence for source in report.sources if (licence := licence_of(source))})
    data = DatasetCardData(
        pretty_name=name,
        license=licences[0] if len(licences) == 1 and _all_known(report) else "other",
        task_categories=["text-generation"],
        tags=["reasoning", "parallel-thinking", "parathinker"],
        size_categories=[next((s for most, s in _SIZES if total < most), "n>1M")],
        configs=[
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"{split}.parquet"} for split in sorted(report.splits)
                ],
            }
        ],
    )
    return "\n".join(["---", data.to_yaml(), "---", "", *_body(report, name), ""])


def licence_of(source: str) -> str | None:
    """The licence of a source's questions, where it is known."""
    nicknames = {hub_id.casefold(): nickname for nickname, hub_id in NICKNAMES.items()}
    name = nicknames.get(source.casefold(), source.casefold()).split(":")[0]
    return _LICENCES.get(name)


def command(report: BuildReport) -> str:
    """The command that builds the dataset again; inputs are named without their folders."""
    words = ["parathinker", "data", "build", *report.inputs, "-o", "dataset"]
    default = BuildSettings()
    for one in fields(BuildSettings):
        value, option = getattr(report.settings, one.name), f"--{one.name.replace('_', '-')}"
        if value == getattr(default, one.name):
            continue
        if one.name == "against":
            words += [word for file in value for word in (option, Path(file).name)]
        elif one.name in ("tokenizer", "summaries"):
            words += [option, Path(value).name]
        elif isinstance(value, bool):
            words.append(option)
        else:
            listed = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [option, listed]
    return shlex.join(words)


def _all_known(report: BuildReport) -> bool:
    return all(licence_of(source) for source in report.sources)


def _body(report: BuildReport, name: str) -> list[str]:
    settings = report.settings
    return [
        f"# {name}",
        "",
        "Questions, several paths of reasoning for each, and a summary that reads them all, for "
        "training language models to think in parallel "
        "([ParaThinker](https://arxiv.org/abs/2509.04475)).",
        "",
        *_table(
            ("split", "examples", "paths", "right", "wrong", "learned", "summaries"),
            [
                (split, c.examples, c.paths, c.right, c.wrong, c.learned, c.summaries)
                for split, c in sorted(report.splits.items())
            ],
        ),
        "",
        "A row has `question`, `paths` (a list of `text`, `learn`, `answer`, `correct`), "
        "`summary`, `id`, `answer`, `source` and `split`. A path with `learn` false is there to be "
        "read by the summary, not to be imitated. A hash of `id` decides the split.",
        "",
        "## How it was made",
        "",
        f"Built from {', '.join(f'`{one}`' for one in report.inputs)}: {report.questions:,} "
        f"questions with {report.verdicts.total():,} samples{_verdicts(report)}. What each step "
        "got and dropped:",
        "",
        *_table(
            ("step", "of", "came", "kept", "dropped"),
            [
                (
                    tally.step,
                    tally.unit,
                    tally.came,
                    tally.kept,
                    "; ".join(f"{n:,} {why}" for why, n in sorted(tally.dropped.items())) or "0",
                )
                for tally in report.tallies
            ],
        ),
        "",
        "A path is right if its answer scores "
        + ("1" if settings.threshold == 1 else f"{settings.threshold:g} or more")
        + ", by the task's own scorer for problems of reasoning-gym, by math-verify for all "
        f"others. Questions that share {settings.ngram} words in a row with "
        f"{_listed([*settings.benchmarks, *settings.against])} were dropped; `dropped.jsonl` names "
        "every question that was dropped, and what it matched.",
        "",
        "The same samples and versions give the same rows again with",
        "",
        "```sh",
        command(report),
        "```",
        "",
        *_table(("package", "version"), list(report.versions.items())),
        "",
        "`build.json` has all settings and counts.",
        "",
        "## Where the questions are from",
        "",
        *_table(
            ("source", "examples", "licence"),
            [
                (source, count, licence_of(source) or "not known here")
                for source, count in sorted(report.sources.items())
            ],
        ),
        "",
        "Licences are those that sources state for themselves. Paths and summaries are a teacher "
        "model's writing; its licence or terms of use apply to them as well. Check both before "
        "you publish this dataset or a model trained on it.",
    ]


def _verdicts(report: BuildReport) -> str:
    counts = ", ".join(f"{n:,} {what}" for what, n in sorted(report.verdicts.items()))
    return f" ({counts})" if counts else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "no benchmark"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows)]
