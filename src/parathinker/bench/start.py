"""A new process, from its start to the first token, as a user of the command line waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from parathinker.bench.figures import Column, Section, Spread
from parathinker.bench.setting import EMBEDDED, Bench, shown_name
from parathinker.bench.targets import judge
from parathinker.errors import ParaThinkerError

COLUMNS = (
    Column("model", "model"),
    Column("total_s", "to the first token, s"),
    Column("import_s", "import, s"),
    Column("load_s", "load, s"),
    Column("first_token_s", "first token, s"),
)
_PROGRAM = """
import json, sys, time
marks = [time.perf_counter()]
from parathinker import ParaThinker, PathToken, ThinkingParams
options = json.loads(sys.argv[1])
import parathinker.parathinker
marks.append(time.perf_counter())
model = ParaThinker.from_pretrained(**options["load"])
marks.append(time.perf_counter())
params = ThinkingParams(paths=options["paths"], max_path_tokens=8, max_summary_tokens=1)
for event in model.stream(options["question"], params):
    if isinstance(event, PathToken):
        break
marks.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]), flush=True)
"""


def measure(bench: Bench) -> Section:
    """The section."""
    bench.release()  # two copies of the weights may be more than there is room for
    section = Section("start", "From the start of a process to the first token", COLUMNS)
    models = {bench.options.model: "start_model"}
    if bench.options.model == EMBEDDED:
        models = {}
    models[EMBEDDED] = "start_embedded"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    starts = bench.sizes.starts
    for repeat in range(starts):
        for name in models:
            bench.progress(f"starting {shown_name(name)}", repeat, starts)
            found[name].append(_start(bench, name))
            bench.progress(f"starting {shown_name(name)}", repeat + 1, starts)
    for name, target in models.items():
        row: dict[str, str | Spread] = {"model": shown_name(name)}
        for column in COLUMNS[1:]:
            row[column.key] = Spread.of(one[column.key] for one in found[name])
        section.rows.append(row)
        total = Spread.of(one["total_s"] for one in found[name])
        section.verdicts.append(judge(target, shown_name(name), total.median))
    section.notes.append(
        f"{bench.usual_paths} paths; files are in the operating system's memory after the first "
        "start; the first column includes Python's own start"
    )
    return section


def _start(bench: Bench, name: str) -> dict[str, float]:
    options = bench.options
    weights = options.weights if name == options.model else "auto"
    wanted: dict[str, Any] = {
        "load": {
            "name": name,
            "device": options.device,
            "weights": weights,
            "threads": options.threads,
        },
        "question": bench.question() if name == options.model else "What is 12 * 34?",
        "paths": bench.usual_paths,
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(wanted)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    total = time.perf_counter() - began
    _, errors = process.communicate()
    if not line:
        reason = (errors.strip().splitlines() or ["it says nothing"])[-1]
        raise ParaThinkerError(f"a new process with the model {name} failed: {reason}")
    names = ("import_s", "load_s", "first_token_s")
    return {"total_s": total, **dict(zip(names, json.loads(line), strict=True))}
