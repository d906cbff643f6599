"""The job by ParaThinker, through its public API."""

from __future__ import annotations

from importlib.metadata import version

import torch
from job import Job, check_lengths, serve

from parathinker import ParaThinker, ThinkingParams


class OurEngine:
    """Paths by native parallel thinking; the summary reads their keys and values where they are."""

    def __init__(self, job: Job) -> None:
        weights = job.options["weights"]
        torch.set_num_threads(job.threads)
        self.model = ParaThinker.from_pretrained(
            job.thinking_model, weights=weights, threads=job.threads
        )
        self.settings = {
            "parathinker": version("parathinker"),
            "torch": torch.__version__,
            "weights": weights,
            "threads": job.threads,
        }

    def run(self, job: Job, paths: int, seed: int) -> dict[str, float]:
        self.model.forget_prefixes()
        path_tokens = job.path_tokens + 1  # the closing token counts, too
        params = ThinkingParams(
            paths=paths,
            max_path_tokens=path_tokens,
            min_path_tokens=path_tokens,
            max_summary_tokens=job.summary_tokens,
            min_summary_tokens=job.summary_tokens,
            termination="last-finish",
            temperature=1.0,
            logprobs=False,  # nobody else reports them
            seed=seed,
        )
        answer = self.model.think(job.question, params)
        if answer.prompt_token_ids != job.prompt or answer.usage.cached_tokens:
            raise RuntimeError("the prompt is not the job's, or was there from an earlier run")
        thought = [path.token_ids[1:-1] for path in answer.paths]
        check_lengths(job, thought, paths, answer.summary.token_ids[1:])
        timings = answer.timings
        return {
            "prefill_s": timings.prefill_s,
            "think_s": timings.think_s,
            "summary_ttft_s": timings.summary_ttft_s,
            "summary_s": timings.summary_s,
            "total_s": timings.total_s,
        }


if __name__ == "__main__":
    serve(OurEngine)
