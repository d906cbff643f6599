"""What every contestant gets and what it gives back: the job, its timings, and the loop over both.

Uses the standard library only, because each contestant runs it in an environment of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """Sample paths that share a prompt, then a summary that reads the prompt and all of them."""

    model: str
    """Folder of the plain model, for transformers and vLLM."""
    gguf: str
    """The same weights as an F32 GGUF file, for llama.cpp."""
    thinking_model: str
    """The same weights with control tokens and thought embeddings, for ParaThinker."""
    question: str
    prompt: list[int]
    """The question's token ids, chat template included."""
    separator: list[int]
    """Token ids between the last path and the summary."""
    paths: list[int]
    """The numbers of paths to run with, in this order."""
    path_tokens: int
    summary_tokens: int
    repeats: int
    """Timed runs of each number of paths."""
    seed: int
    threads: int
    options: dict[str, Any] = field(default_factory=dict)
    """The contestant's own settings."""

    def flat_context(self, paths: list[list[int]]) -> list[int]:
        """Prompt, all paths one after the other, separator: what the summary reads."""
        return [*self.prompt, *(token for path in paths for token in path), *self.separator]

    def short(self) -> Job:
        """The same job with few tokens, to warm up with."""
        return dataclasses.replace(self, path_tokens=16, summary_tokens=4)


class Marks:
    """Moments of one run; every contestant sets the same ones."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.path_steps: list[float] = []
        self.summary_steps: list[float] = []

    def path_step(self) -> None:
        """Every path has one more token."""
        self.path_steps.append(time.perf_counter())

    def summary_step(self) -> None:
        """The summary has one more token."""
        self.summary_steps.append(time.perf_counter())

    def timings(self) -> dict[str, float]:
        """Seconds of each phase as in ParaThinker's ``Timings``, and a step's milliseconds."""
        first, last = self.path_steps[0], self.path_steps[-1]
        steps = zip(self.path_steps, self.path_steps[1:], strict=False)
        return {
            "prefill_s": first - self.started,
            "think_s": last - first,
            "summary_ttft_s": self.summary_steps[0] - last,
            "summary_s": self.summary_steps[-1] - last,
            "total_s": self.summary_steps[-1] - self.started,
            "median_step_ms": 1000 * statistics.median(after - before for before, after in steps),
        }


class Contestant(Protocol):
    """An engine with its model loaded."""

    settings: dict[str, Any]
    """Versions and tuning, for the report."""

    def run(self, job: Job, paths: int, seed: int) -> dict[str, float]:
        """Do the job once; returns :meth:`Marks.timings`, and more where there is more to say."""
        ...


def serve(load: Callable[[Job], Contestant]) -> None:
    """The command line of a contestant: read ``--job``, run it, write ``--out`` as it goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True, help="JSON file, see Job")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    job = Job(**json.loads(options.job.read_text("utf-8")))
    started = time.perf_counter()
    contestant = load(job)
    result: dict[str, Any] = {
        "settings": contestant.settings,
        "load_s": time.perf_counter() - started,
        "cells": [],
    }
    for paths in job.paths:
        contestant.run(job.short(), paths, job.seed)
        for repeat in range(job.repeats):
            timings = contestant.run(job, paths, job.seed + repeat)
            step_ms = 1000 * timings["think_s"] / (job.path_tokens - 1)
            result["cells"].append({"paths": paths, "step_ms": step_ms, **timings})
            _write(options.out, result)
            print(f"  {paths} paths: {timings['total_s']:.2f} s", file=sys.stderr, flush=True)


def check_lengths(job: Job, paths: list[list[int]], count: int, summary: list[int]) -> None:
    """Every path and the summary must have exactly the tokens that were asked for."""
    lengths = [len(path) for path in paths]
    if lengths != [job.path_tokens] * count or len(summary) != job.summary_tokens:
        raise RuntimeError(f"wrong number of tokens: paths {lengths}, summary {len(summary)}")


def _write(path: Path, result: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result), "utf-8")
    os.replace(partial, path)
