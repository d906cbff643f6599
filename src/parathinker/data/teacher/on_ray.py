"""A job's shards as Ray tasks: each samples into a file of its own, which are merged at the end.

The files lie beside the output, in a folder that all of Ray's machines see. A rerun goes on where
each shard stopped. Keys come from the environment of the machines that run the tasks.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from parathinker.data.samples import merge
from parathinker.data.teacher.job import SamplingJob, Tally, run_job, shard_file
from parathinker.data.teacher.shards import Shard
from parathinker.errors import MissingExtraError


def run_on_ray(job: SamplingJob, shards: int) -> list[dict[str, Any]]:
    """Run a job in so many shards and merge them into its output.

    Returns:
        The summaries of the shards.

    Raises:
        MissingExtraError: Ray is not installed.
        TeacherError: as :func:`~.job.run_job`, in any shard.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("sampling on Ray", "ray") from error
    jobs = shards_of(job, shards)
    task = ray.remote(_run_shard)
    done = ray.get([task.remote(one) for one in jobs])
    merge([one.output for one in jobs], job.output)
    return list(done)


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


class _Quiet:
    def update(self, tally: Tally) -> None:
        pass

    def note(self, text: str) -> None:
        print(text)


def _run_shard(job: SamplingJob) -> dict[str, Any]:
    return run_job(job, _Quiet()).summary()
