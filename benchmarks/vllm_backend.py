"""The vLLM backend against plain vLLM: the summary's first token, and many questions at once.

Run: $(python scripts/vllm_environment.py) benchmarks/vllm_backend.py [--model FOLDER] [--json FILE]

*summary*: paths of 2,048 and of 8,192 tokens in all are in memory; how long until the summary's
first token, and how long if prompt and paths are read again as one flat text, as plain vLLM has
to.

*groups*: 16 questions at once; each is thought about along several paths and summed up. Plain
vLLM samples the same number of texts of the same length and reads them again for its summary. Both
run on the same weights, one after the other, with the same settings.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from parathinker import ParaThinker, ThinkingParams
from parathinker.modeling.config import THOUGHT_EMBEDDING_MODULE
from parathinker.modeling.folders import resolve_model

PATHS = 8
TOTALS = (2048, 8192)
"""Tokens of all paths together."""
GROUPS, SUMMARY_TOKENS = 16, 32
QUESTION = "A train leaves at nine, a second one two hours later. When do they meet? Number {}."
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_batched_tokens": 4096,
    "block_size": 32,
}


@dataclass(frozen=True)
class Group:
    """What is thought about one question."""

    paths: int
    path_tokens: int


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="name or folder; default: tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="summary,groups")
    parser.add_argument("--paths", type=int, default=4, help="of each group; default: 4")
    parser.add_argument("--path-tokens", type=int, default=128, help="default: 128")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder, found = resolve_model(options.model), dict[str, Any]()
    wanted = options.only.split(",")
    # All paths of all questions at once, or plain vLLM and ours alike would take turns.
    settings = {**SETTINGS, "max_num_seqs": GROUPS * options.paths}
    with ParaThinker.from_pretrained(folder, backend="vllm", **settings) as model:
        if "summary" in wanted:
            totals = [n for n in TOTALS if n // PATHS + 64 < model.config.max_context]
            found["summary"] = [first_token(model, total, options.rounds) for total in totals]
        if "groups" in wanted:
            group = Group(options.paths, options.path_tokens)
            found["groups"] = dataclasses.asdict(group) | {
                "parathinker_s": think_groups(model, group, options.rounds)
            }
            prompts = [model._preparer.prompt(QUESTION.format(i)) for i in range(GROUPS)]
    if "groups" in wanted:
        with tempfile.TemporaryDirectory() as copy:
            without = without_thoughts(folder, Path(copy))
            plain = asyncio.run(plain_groups(without, prompts, group, options.rounds, settings))
        found["groups"]["plain_s"] = plain
        found["groups"]["speedup"] = plain / found["groups"]["parathinker_s"]
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), "utf-8")


def without_thoughts(folder: Path, copy: Path) -> Path:
    """The model without thought embeddings, which plain vLLM refuses to load."""
    for file in folder.iterdir():
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, copy)
    weights = load_file(folder / "model.safetensors")
    kept = {name: one for name, one in weights.items() if THOUGHT_EMBEDDING_MODULE not in name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    return copy


def first_token(model: ParaThinker, total: int, rounds: int) -> dict[str, Any]:
    """Seconds from the end of thinking to the summary's first token, by both ways."""
    body = total // PATHS - 6
    reuse, again = [], []
    for number in range(rounds + 1):
        prefixes = [
            tuple(50 + (number * 7 + i * 3 + k) % 150 for k in range(body)) for i in range(PATHS)
        ]
        params = ThinkingParams(
            paths=PATHS,
            path_prefix=tuple(prefixes),
            max_path_tokens=body + 5,
            min_path_tokens=body + 5,
            max_summary_tokens=2,
            min_summary_tokens=2,
            termination="last-finish",
            temperature=0.0,
        )
        answer = model.think(QUESTION.format(number), params)
        reuse.append(answer.timings.summary_ttft_s)
        flat = [*answer.prompt_token_ids, *(t for p in answer.paths for t in p.token_ids)]
        again.append(_one_token(model, flat))
    # The first round warms up.
    return {
        "path_tokens": total,
        "reuse_s": statistics.median(reuse[1:]),
        "reprefill_s": statistics.median(again[1:]),
    }


def _one_token(model: ParaThinker, tokens: Sequence[int]) -> float:
    """Seconds until a flat text's first token; nothing of it is in memory."""
    from parathinker.backends.vllm.streams import Ask, Stream, stop_streams

    model.forget_prefixes()

    async def ask(llm: Any) -> float:
        began = time.perf_counter()
        stream = Stream(llm, Ask(f"flat-{began}", tokens, 1))
        await stream.next()
        taken = time.perf_counter() - began
        await stop_streams([stream])
        return taken

    return model._engine.ask(ask)  # type: ignore[attr-defined]


def think_groups(model: ParaThinker, group: Group, rounds: int) -> float:
    """Seconds for all questions together."""
    params = ThinkingParams(
        paths=group.paths,
        max_path_tokens=group.path_tokens,
        min_path_tokens=group.path_tokens,
        max_summary_tokens=SUMMARY_TOKENS,
        min_summary_tokens=SUMMARY_TOKENS,
        termination="last-finish",
        temperature=1.0,
        seed=1,
    )
    taken = []
    for _ in range(rounds + 1):
        model.forget_prefixes()
        began = time.perf_counter()
        model.think([QUESTION.format(i) for i in range(GROUPS)], params)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


async def plain_groups(
    folder: Path, prompts: list[list[int]], group: Group, rounds: int, settings: dict[str, Any]
) -> float:
    """The same by vLLM as it comes: its own model, sampler and cache."""
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    paths_room = group.paths * (group.path_tokens + 2)
    room = max(map(len, prompts)) + paths_room + SUMMARY_TOKENS + 2
    llm = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=str(folder), skip_tokenizer_init=True, max_model_len=max(room, 1024), **settings
        )
    )

    async def write(prompt: list[int], count: int, tokens: int, name: str) -> list[list[int]]:
        params = SamplingParams(
            n=count,
            temperature=1.0,
            max_tokens=tokens,
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async for output in llm.generate(TokensPrompt(prompt_token_ids=prompt), params, name):
            last = output
        return [list(one.token_ids) for one in last.outputs]

    async def one(number: int, prompt: list[int], turn: int) -> None:
        name = f"{turn}-{number}"
        texts = await write(prompt, group.paths, group.path_tokens + 1, name)
        flat = [*prompt, *(t for text in texts for t in text)]
        await write(flat, 1, SUMMARY_TOKENS, f"{name}-summary")

    taken = []
    try:
        for turn in range(rounds + 1):
            await llm.reset_prefix_cache()
            began = time.perf_counter()
            await asyncio.gather(*(one(i, prompt, turn) for i, prompt in enumerate(prompts)))
            taken.append(time.perf_counter() - began)
    finally:
        llm.shutdown()
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
