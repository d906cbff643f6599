"""A job's shards on Ray Data: each samples into a file of its own, which are merged at the end.

The files lie beside the output, in a folder that all of Ray's machines see. A rerun goes on where
each shard stopped. Keys come from the environment of the machines that run the tasks.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from parathinker.data.merging import merge
from parathinker.data.teacher.asking import TeacherError
from parathinker.data.teacher.job import SamplingJob, Tally, run_job, shard_file
from parathinker.data.teacher.shards import Shard
from parathinker.errors import MissingExtraError, ParaThinkerError


def run_on_ray(job: SamplingJob, shards: int) -> list[dict[str, Any]]:
    """Run a job in so many shards, a Ray task each, and merge them into its output.

    Returns:
        The summaries of the shards.

    Raises:
        MissingExtraError: Ray is not installed.
        TeacherError: some shards could not go on; what the others brought is merged.
    """
    try:
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise MissingExtraError("sampling on Ray", "ray") from error
    jobs = shards_of(job, shards)
    numbers = [{"shard": number} for number in range(shards)]
    rows = data.from_items(numbers, override_num_blocks=shards)
    done = rows.map(run_shard, fn_kwargs={"jobs": jobs}, concurrency=shards).take_all()
    errors = sorted({str(row["error"]) for row in done if row["error"]})
    merge([one.output for one in jobs if one.output.is_file()], job.output)
    if errors:
        raise TeacherError("\n".join(errors))
    return [json.loads(row["summary"]) for row in done]


def shards_of(job: SamplingJob, shards: int) -> list[SamplingJob]:
    """The same job for each share of its questions; a limit on the cost is divided among them."""
    most = job.prices.most
    prices = replace(job.prices, most=None if most is None else most / shards)
    return [
        replace(
            job,
            output=shard_file(job.output.absolute(), shard),
            questions=job.questions.absolute(),
            settings=replace(job.settings, shard=str(shard)),
            prices=prices,
        )
        for shard in (Shard(number, shards) for number in range(1, shards + 1))
    ]


def run_shard(row: Mapping[str, Any], jobs: Sequence[SamplingJob]) -> dict[str, str]:
    """What one task does. An error is a result, so that it does not end the other tasks."""
    job = jobs[int(row["shard"])]
    try:
        return {"summary": json.dumps(run_job(job, _Log()).summary()), "error": ""}
    except ParaThinkerError as error:
        return {"summary": "", "error": f"shard {job.settings.shard}: {error}"}


class _Log:
    """Who looks on, on another machine."""

    def update(self, tally: Tally) -> None:
        pass

    def note(self, text: str) -> None:
        print(text)
