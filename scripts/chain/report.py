"""The chain's report: Markdown, from what the steps left in the ledger."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers.catalog import VLLM

from chain.ledger import Ledger


def write_report(folder: Path, ledger: Ledger) -> Path:
    """Write ``report.md``; returns its path."""
    file = folder / "report.md"
    file.write_text(report(ledger), "utf-8")
    return file


def report(ledger: Ledger) -> str:
    """The report's text."""
    ask = ledger.facts("ask")
    lines = [
        "# The whole chain in one run",
        "",
        f"{datetime.date.today().isoformat()}, {_machine()}. Made by `python scripts/chain.py`.",
        "",
        "## Steps",
        "",
        *table(
            ("step", "seconds", "what came of it"),
            [(step.name, f"{step.seconds:,.1f}", step.says) for step in ledger.done.values()],
        ),
        "",
        f"Together {sum(step.seconds for step in ledger.done.values()) / 60:.1f} minutes.",
        "",
        "## What the kills left, and what the same command then did",
        "",
        *_kills(ledger),
        "",
        "## From samples to examples",
        "",
        *table(
            ("step", "of", "came", "kept"),
            [
                (one["step"], one["unit"], one["came"], one["kept"])
                for one in ledger.facts("data build, again")["steps"]
            ],
        ),
        "",
        "## Accuracy",
        "",
        *accuracy(ledger),
        "",
        "## A question",
        "",
        "The first of the held-out questions, not a chosen one:",
        "",
        "```",
        f"$ parathinker {shlex.join(ask['words'])}",
        "",
        ask["shown"],
        "```",
        "",
    ]
    return "\n".join(lines)


def accuracy(ledger: Ledger) -> list[str]:
    """The table, and how to read it."""
    rows = ledger.facts("before training")["rows"] + ledger.facts("after training")["rows"]
    held_out = ledger.facts("data questions")["held_out"]
    cells = [
        (
            one["method"],
            one["paths"],
            f"{one['accuracy']:.1f} ± {one['standard_error']:.1f}",
            f"{one['tokens']:.0f}",
        )
        for one in rows
    ]
    return [
        *table(("method", "paths", "accuracy, %", "tokens a question"), cells),
        "",
        f"{held_out} held-out questions, none of them in the training data; ± standard error over "
        "questions. The base is told in the prompt to write out the calculation, the trained model "
        "gets the question alone. Both sample at temperature 0.8; summaries are greedy.",
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in Markdown."""
    return [_line(head), "|" + "---|" * len(head), *map(_line, rows)]


def _line(cells: Sequence[object]) -> str:
    shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"


def _kills(ledger: Ledger) -> list[str]:
    asked, built, first = (
        ledger.facts(name) for name in ("data sample, again", "data build, again", "train, killed")
    )
    at_kill, again = ledger.facts("data build, killed"), ledger.facts("train, again")
    checked = at_kill["checked"] + built["checked"]
    return [
        f"- **data sample**, SIGKILL with {asked['stored_at_kill']:,} of {asked['wanted']:,} "
        f"samples in the store. By the teacher's own log {asked['in_flight_at_kill']} more were in "
        f"flight. The rerun found {asked['before']:,}, asked for {asked['arrived']:,}. In all the "
        f"teacher got {asked['requests']:,} requests for {asked['wanted']:,} paths: "
        f"{asked['twice']} paths were asked for twice, all of them in flight at the kill, and "
        "none that the store had.",
        f"- **data build**, SIGKILL with {at_kill['checked']:,} of {checked:,} answers checked and "
        f"saved; {'a' if at_kill['made'] else 'no'} dataset was there. The rerun checked the other "
        f"{built['checked']:,}.",
        f"- **train**, SIGKILL after step {again['killed_at']}; checkpoint {first['checkpoint']} "
        f"was there. The rerun went on from step {again['went_on_from']}, computed "
        f"{again['repeated']} steps again, {_losses(first, again)}, and ended at step "
        f"{again['losses'][-1][0]}.",
    ]


def _losses(first: dict[str, Any], again: dict[str, Any]) -> str:
    before, after = dict(first["losses"]), dict(again["losses"])
    both = sorted(before.keys() & after.keys())
    shown = ", ".join(f"{step}: {before[step]} and {after[step]}" for step in both)
    return f"with the same losses ({shown})"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = [f"{name} {version(name)}" for name in ("torch", "transformers", "peft")]
    packages += [name.replace("==", " ") for name in VLLM.requirements if "vllm" in name]
    names = ", ".join(packages)
    return f"{cores} cores ({_processor()}), Python {platform.python_version()}, {names}"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
