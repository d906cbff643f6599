"""The job by Hugging Face transformers' ``generate``."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import torch
from job import Job, Marks, check_lengths, serve
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.generation import BaseStreamer


class _OnToken(BaseStreamer):
    """Calls back at each step; ``generate`` hands a streamer the prompt first."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._callback()
        self._prompt_seen = True

    def end(self) -> None:
        pass


class Transformers:
    """SDPA attention and a dynamic cache.

    The prompt is prefilled once and its cache repeated for all paths; the summary goes on from
    the first path's cache, so that only the other paths' tokens are read again.
    """

    def __init__(self, job: Job) -> None:
        dtype = job.options["dtype"]
        torch.set_num_threads(job.threads)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            job.model, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()
        self.model.generation_config.eos_token_id = None  # lengths are forced
        self.settings = {
            "transformers": version("transformers"),
            "torch": torch.__version__,
            "dtype": dtype,
            "attention": "sdpa",
            "cache": "dynamic",
            "threads": job.threads,
        }

    @torch.inference_mode()
    def run(self, job: Job, paths: int, seed: int) -> dict[str, float]:
        torch.manual_seed(seed)
        prompt = torch.tensor([job.prompt])
        marks = Marks()
        cache = DynamicCache(config=self.model.config)
        self.model(prompt[:, :-1], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(paths)
        thought, cache = self._generate(
            prompt.expand(paths, -1), cache, job.path_tokens, marks.path_step
        )
        cache.batch_select_indices(torch.tensor([0]))
        context = torch.tensor([job.flat_context(thought)])
        summary, _ = self._generate(context, cache, job.summary_tokens, marks.summary_step)
        check_lengths(job, thought, paths, summary[0])
        return marks.timings()

    def _generate(
        self, context: torch.Tensor, cache: DynamicCache, tokens: int, on_token: Any
    ) -> tuple[list[list[int]], DynamicCache]:
        output = self.model.generate(
            context,
            attention_mask=torch.ones_like(context),
            past_key_values=cache,
            max_new_tokens=tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            streamer=_OnToken(on_token),
            return_dict_in_generate=True,
        )
        return output.sequences[:, context.shape[1] :].tolist(), output.past_key_values


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    serve(Transformers)
