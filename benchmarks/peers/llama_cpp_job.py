"""The job by llama.cpp, through llama-cpp-python's low-level batch API."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from job import Job, Marks, check_lengths, serve

FORMATS = {
    "F32": None,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
BATCH = 4096
"""Most tokens of one ``llama_decode``: the whole summary context."""


class LlamaCpp:
    """One sequence a path, all sharing the prompt's cells, one ``llama_decode`` a step.

    The summary goes on from the first path's cells, so that only the other paths' tokens are read
    again. Sampling is numpy's; its time counts, and is also told apart.
    """

    def __init__(self, job: Job) -> None:
        self._options = {"kv_unified": True, "flash_attention": False, "ubatch": 512, **job.options}
        self._job = job
        llama_cpp.llama_backend_init()
        file = _quantised(Path(job.gguf), self._options["format"])
        self._model = llama_cpp.llama_model_load_from_file(
            str(file).encode(), llama_cpp.llama_model_default_params()
        )
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self._current: _Context | None = None
        self.settings = {
            "llama-cpp-python": version("llama-cpp-python"),
            "system": llama_cpp.llama_print_system_info().decode().strip(" |"),
            "threads": job.threads,
            **self._options,
        }

    def run(self, job: Job, paths: int, seed: int) -> dict[str, float]:
        context = self._context(paths)
        context.clear()
        sampler = _Sampler(seed)
        marks = Marks()
        logits = context.decode(job.prompt, 0)
        context.share_first(paths)
        tokens = sampler(np.repeat(logits, paths, axis=0))
        thought = [tokens]
        marks.path_step()
        for step in range(job.path_tokens - 1):
            tokens = sampler(context.step(tokens, len(job.prompt) + step))
            thought.append(tokens)
            marks.path_step()
        path_ids = np.stack(thought, axis=1).tolist()
        context.keep_first()
        known = len(job.prompt) + job.path_tokens - 1
        flat = job.flat_context(path_ids)
        tokens = sampler(context.decode(flat[known:], known))
        summary = [int(tokens[0])]
        marks.summary_step()
        for step in range(job.summary_tokens - 1):
            tokens = sampler(context.step(tokens, len(flat) + step))
            summary.append(int(tokens[0]))
            marks.summary_step()
        check_lengths(job, path_ids, paths, summary)
        return {**marks.timings(), "sampling_s": sampler.seconds}

    def _context(self, paths: int) -> _Context:
        """Made anew when the number of paths changes; has room for the whole job."""
        if self._current is None or self._current.paths != paths:
            self._current = None  # frees the last one's memory first
            self._current = _Context(self._model, self._vocab_size, paths, self._job, self._options)
        return self._current


class _Context:
    """A llama context with room for one job, and one batch that is filled again and again."""

    def __init__(
        self, model: Any, vocab_size: int, paths: int, job: Job, options: dict[str, Any]
    ) -> None:
        self.paths = paths
        room = len(job.prompt) + paths * job.path_tokens + len(job.separator) + job.summary_tokens
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = room if options["kv_unified"] else room * paths
        params.n_batch = BATCH
        params.n_ubatch = options["ubatch"]
        params.n_seq_max = paths
        params.n_outputs_max = paths
        params.n_threads = params.n_threads_batch = job.threads
        params.kv_unified = options["kv_unified"]
        params.flash_attn_type = int(options["flash_attention"])
        self._llama = llama_cpp.llama_init_from_model(model, params)
        self._memory = llama_cpp.llama_get_memory(self._llama)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._vocab_size = vocab_size
        as_array = np.ctypeslib.as_array
        self._token = as_array(self._batch.token, (BATCH,))
        self._position = as_array(self._batch.pos, (BATCH,))
        self._sequences = as_array(self._batch.n_seq_id, (BATCH,))
        self._wanted = as_array(self._batch.logits, (BATCH,))
        self._sequences[:] = 1

    def __del__(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._llama)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)

    def share_first(self, paths: int) -> None:
        """Give every sequence the cells of the first."""
        for sequence in range(1, paths):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)

    def keep_first(self) -> None:
        """Forget every sequence but the first."""
        llama_cpp.llama_memory_seq_keep(self._memory, 0)

    def decode(self, tokens: list[int], start: int) -> np.ndarray:
        """Append tokens to the first sequence; the last one's logits, shape [1, vocabulary]."""
        count = len(tokens)
        self._token[:count] = tokens
        self._position[:count] = np.arange(start, start + count)
        self._wanted[:count] = 0
        self._wanted[count - 1] = 1
        for index in range(count):
            self._batch.seq_id[index][0] = 0
        return self._run(count, 1)

    def step(self, tokens: np.ndarray, position: int) -> np.ndarray:
        """Append one token to each sequence; their logits, shape [sequences, vocabulary]."""
        count = len(tokens)
        self._token[:count] = tokens
        self._position[:count] = position
        self._wanted[:count] = 1
        for index in range(count):
            self._batch.seq_id[index][0] = index
        return self._run(count, count)

    def _run(self, count: int, outputs: int) -> np.ndarray:
        self._batch.n_tokens = count
        status = llama_cpp.llama_decode(self._llama, self._batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        logits = llama_cpp.llama_get_logits(self._llama)
        return np.ctypeslib.as_array(logits, (outputs, self._vocab_size))


class _Sampler:
    """Temperature 1 over the whole vocabulary, by inverting the cumulative distribution."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.seconds = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.cumsum(weights, axis=1, out=weights)
        drawn = self._random.random(len(weights), dtype=np.float32) * weights[:, -1]
        rows = zip(weights, drawn, strict=True)
        tokens = np.array([np.searchsorted(row, point, side="right") for row, point in rows])
        self.seconds += time.perf_counter() - started
        return np.minimum(tokens, weights.shape[1] - 1)


def _quantised(file: Path, name: str) -> Path:
    """The file itself, or its copy in another format, made by llama.cpp on first use."""
    if name == "F32":
        return file
    target = file.with_name(f"{file.stem.removesuffix('-f32')}-{name.lower()}.gguf")
    if not target.is_file():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = FORMATS[name]
        scratch = target.with_suffix(".partial")
        if llama_cpp.llama_model_quantize(str(file).encode(), str(scratch).encode(), params):
            raise RuntimeError(f"llama.cpp cannot quantise {file.name} to {name}")
        scratch.rename(target)
    return target


if __name__ == "__main__":
    serve(LlamaCpp)
