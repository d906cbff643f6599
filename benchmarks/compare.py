"""ParaThinker against its peers: the same weights, the same job, one table.

Run: python benchmarks/compare.py [--paths 1,4,8,16] [--rounds 3] [--only NAME,NAME] [--output DIR]

Installs every peer in an environment of its own, then goes round: in each round every contestant
does the job once for each number of paths, so that whatever else the machine does falls on all of
them alike. Finished cells are kept in raw.jsonl; a rerun goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers.catalog import CONTESTANTS, Contestant
from peers.install import InstallError, install, last_error
from peers.job import Job
from peers.raw import RawFile
from peers.weights import prepare_weights
from report import write_report

from parathinker.prompt import PromptCodec

CACHE = Path(os.environ.get("PARATHINKER_BENCH_CACHE", Path.home() / ".cache/parathinker-bench"))
SCRIPTS = Path(__file__).resolve().parent / "peers"
QUESTION = (
    "A train leaves at nine and travels at eighty kilometres an hour. A second leaves two hours "
    "later and travels at one hundred and twenty. When does it catch the first?"
)
"""64 tokens with the model's chat template."""
PROMPT_TOKENS, PATH_TOKENS, SUMMARY_TOKENS = 64, 128, 32


def main() -> None:
    """Install, measure what is missing, write the report."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    job = _job(options.threads)
    raw = RawFile(options.output / "raw.jsonl", _header(job), fresh=options.fresh)
    pythons: dict[str, Path] = {}
    for contestant in options.only:
        try:
            pythons[contestant.name] = _python(contestant)
        except InstallError as error:
            _say(f"{contestant.title}: {error}")
            raw.add({"contestant": contestant.name, "missing": str(error)})
    for round_number in range(1, options.rounds + 1):
        for contestant in options.only:
            done = raw.done(contestant.name, round_number)
            paths = [p for p in options.paths if p not in done]
            if contestant.name not in pythons or not paths:
                continue
            _say(f"Round {round_number} of {options.rounds}: {contestant.title}")
            todo = dataclasses.replace(
                job, paths=paths, seed=job.seed + round_number, options=contestant.options
            )
            _run(contestant, pythons[contestant.name], todo, raw, round_number)
    report = write_report(raw.path, options.output)
    _say(f"Report: {report}")


def _options() -> argparse.Namespace:
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paths", type=_numbers, default="1,4,8,16", help="default: 1,4,8,16")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each cell, default: 3")
    parser.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), metavar="DIR")
    parser.add_argument("--threads", type=int, default=_cores(), help="default: all cores")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"--only knows {', '.join(names)}; got {', '.join(unknown)}")
    options.only = [contestant for contestant in CONTESTANTS if contestant.name in chosen]
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _job(threads: int) -> Job:
    weights = prepare_weights(CACHE)
    codec = PromptCodec.from_folder(weights.thinking)
    prompt = codec.encode_question(QUESTION)
    assert len(prompt) == PROMPT_TOKENS, f"the prompt has {len(prompt)} tokens"
    return Job(
        model=str(weights.plain),
        gguf=str(weights.gguf),
        thinking_model=str(weights.thinking),
        question=QUESTION,
        prompt=prompt,
        separator=codec.encode_text("\n"),
        paths=[],
        path_tokens=PATH_TOKENS,
        summary_tokens=SUMMARY_TOKENS,
        repeats=1,
        seed=0,
        threads=threads,
    )


def _header(job: Job) -> dict[str, Any]:
    """What must be the same for measurements to stand in one table."""
    return {
        "model": "SmolLM2-135M-Instruct",
        "machine": _processor(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "threads": job.threads,
        "prompt_tokens": len(job.prompt),
        "path_tokens": job.path_tokens,
        "separator_tokens": len(job.separator),
        "summary_tokens": job.summary_tokens,
    }


def _processor() -> str:
    """The processor's name and what of its matrix and vector units matters here."""
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return platform.processor() or platform.machine()
    lines = dict(
        (part.strip() for part in line.split(":", 1))
        for line in facts.read_text("utf-8").splitlines()
        if ":" in line
    )
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    flags = [flag for flag in wanted if flag in lines.get("flags", "").split()]
    return f"{lines.get('model name', platform.machine())}; {', '.join(flags) or 'no AVX2'}"


def _python(contestant: Contestant) -> Path:
    if contestant.environment is None:
        return Path(sys.executable)
    return install(contestant.environment, CACHE)


def _run(contestant: Contestant, python: Path, job: Job, raw: RawFile, round_number: int) -> None:
    """One process for all of a round's cells; what it finished counts even if it then fails."""
    with tempfile.TemporaryDirectory() as scratch:
        job_file, out = Path(scratch) / "job.json", Path(scratch) / "result.json"
        job_file.write_text(json.dumps(dataclasses.asdict(job)), "utf-8")
        log = CACHE / f"{contestant.name}.run.log"
        command = [str(python), str(SCRIPTS / contestant.script)]
        environment = str(python.parent.parent)
        variables = {
            name: value.replace("{environment}", environment)
            for name, value in contestant.variables.items()
        }
        with log.open("w", encoding="utf-8") as errors:
            finished = subprocess.run(
                [*command, "--job", str(job_file), "--out", str(out)],
                env={**os.environ, "OMP_NUM_THREADS": str(job.threads), **variables},
                stdout=errors,
                stderr=errors,
                check=False,
            )
        if out.is_file():
            result = json.loads(out.read_text("utf-8"))
            raw.add({"contestant": contestant.name, "settings": result["settings"]})
            for cell in result["cells"]:
                raw.add({"contestant": contestant.name, "round": round_number, **cell})
                _say(f"  {cell['paths']:2d} paths: {cell['total_s']:.2f} s")
        if finished.returncode:
            reason = f"stopped with an error: {last_error(log)}"
            _say(f"  {reason} (all of it: {log})")
            raw.add({"contestant": contestant.name, "missing": reason})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
