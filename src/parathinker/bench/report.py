"""What was measured, as JSON, as Markdown, and as plots."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parathinker import __version__
from parathinker.bench import plots
from parathinker.bench.figures import Section, Verdict, plain, shown_table
from parathinker.bench.machine import describe
from parathinker.bench.setting import Bench, shown_name
from parathinker.errors import UsageError

TARGET_HEADINGS = ("target", "where", "measured", "should be", "")


def document(bench: Bench, sections: Sequence[Section]) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "parathinker": __version__,
        "model": bench.options.model,
        "weights": bench.options.weights,
        "engine": bench.engine,
        "quick": bench.options.quick,
        "sizes": dataclasses.asdict(bench.sizes),
        "machine": describe(),
        "sections": [section.to_dict() for section in sections],
        "targets": [
            {**dataclasses.asdict(v), "value": plain(v.value)} for v in _verdicts(sections)
        ],
    }


def target_rows(sections: Sequence[Section]) -> list[tuple[str, str, str, str, str]]:
    """Figures beside their targets, as text."""
    return [
        (
            v.what,
            v.where,
            f"{v.value:.2f} {v.unit}",
            f"{v.relation} {v.limit:g} {v.unit}",
            "not judged" if v.met is None else "met" if v.met else "not met",
        )
        for v in _verdicts(sections)
    ]


def target_notes(sections: Sequence[Section]) -> list[str]:
    """Why some of them are not judged."""
    reasons: dict[str, list[str]] = {}
    for verdict in _verdicts(sections):
        if verdict.why:
            named = reasons.setdefault(verdict.why, [])
            named += [] if verdict.what in named else [verdict.what]
    return [f"not judged, {'; '.join(whats)}: {why}" for why, whats in reasons.items()]


def check_folder(folder: Path) -> None:
    """Make the report's folder before an hour of measuring is lost on it.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").touch()
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be written to: {error}") from error


def write_report(bench: Bench, sections: Sequence[Section], folder: Path) -> Path:
    """Write ``report.json``, ``report.md`` and its plots; returns the Markdown's path."""
    found = document(bench, sections)
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    drawn = plots.draw(sections, folder)
    report = folder / "report.md"
    report.write_text(markdown(found, sections, drawn), "utf-8")
    return report


def headline(found: dict[str, Any]) -> str:
    """In one line: what was measured, on what."""
    machine = found["machine"]
    engine = f"{found['engine']}; " if found["engine"] else ""
    return (
        f"{shown_name(found['model'])}, weights {found['weights']}; {engine}"
        f"{machine['processor']}; {machine['processors']} processors; {machine['system']}, "
        f"Python {machine['python']}, PyTorch {machine['torch']}"
    )


def markdown(
    found: dict[str, Any], sections: Sequence[Section], drawn: dict[str, str] | None
) -> str:
    """The report; ``drawn`` are the plots' file names by section, None without matplotlib."""
    parts = ["# ParaThinker on this machine", headline(found)]
    parts.append("Medians; least and most in brackets.")
    if found["quick"]:
        parts.append("A quick look: short paths and few repeats, so the figures are rough.")
    if drawn is None:
        parts.append("Without plots: they need `pip install 'parathinker[bench]'`.")
    targets = target_rows(sections)
    if targets:
        parts += ["## Targets", _table(TARGET_HEADINGS, targets)]
        parts.append("\n".join(f"- {note}" for note in target_notes(sections)))
    for section in sections:
        parts.append(f"## {section.title}")
        if section.left_out:
            parts.append(f"Left out: {section.left_out}")
        if section.rows:
            parts.append(_table(*shown_table(section)))
        if drawn and section.name in drawn:
            parts.append(f"![{section.title}]({drawn[section.name]})")
        if section.notes:
            parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdicts(sections: Sequence[Section]) -> list[Verdict]:
    return [verdict for section in sections for verdict in section.verdicts]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
