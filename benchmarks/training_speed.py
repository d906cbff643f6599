"""One training step on a packed row, against the way the reference code trains: speed and memory.

Run: python benchmarks/training_speed.py [--model smollm2] [--tokens 2048] [--paths 8] [--rounds 3]

The reference trains one sequence at a time with a dense S×S float mask, eager attention and the
logits of all positions. The same model with the same random weights and tokens is trained here both
ways, and with PyTorch's fused attention under the same dense mask. A contestant's every turn is a
process of its own, and turns go round, so that whatever else the machine does falls on all alike.
The losses of their first steps must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONTESTANTS = {
    "structured": "structured attention, chunked loss",
    "eager": "dense mask, eager attention, all logits",
    "sdpa": "dense mask, fused attention, all logits",
}
PRECISIONS = ("float32", "bfloat16")
PROMPT, SUMMARY = 64, 64
"""Tokens of the prompt and of the summary; the paths share what is left."""
CONFIGS = {
    "smollm2": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
    "tiny": {
        "vocab_size": 363,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
}
"""The shapes of SmolLM2-135M and of the embedded model."""


def main() -> None:
    """Take turns, print the tables."""
    options = _options()
    if options.worker:
        print(json.dumps(_work(**json.loads(options.worker))))
        return
    job = {name: getattr(options, name) for name in ("model", "paths", "layers", "threads")}
    speed, memory = [], []
    if options.only != "memory":
        speed = _speed(options, {**job, "tokens": options.tokens, "steps": options.steps})
    if options.only != "speed":
        memory = _memory(options, {**job, "steps": 1, "precision": options.precisions[0]})
    settings = {**job, "tokens": options.tokens, "steps": options.steps, "rounds": options.rounds}
    if options.json:
        report = {"settings": settings, "speed": speed, "memory": memory}
        options.json.write_text(json.dumps(report, indent=1), "utf-8")
    if speed:
        print(_speed_table(speed, settings))
    if memory:
        print(_memory_table(memory, options.precisions[0]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["speed", "memory"], help="by default both")
    parser.add_argument("--tokens", type=int, default=2048, help="in the row, default: 2048")
    parser.add_argument("--paths", type=int, default=8, help="default: 8")
    parser.add_argument("--model", choices=CONFIGS, default="smollm2", help="default: smollm2")
    parser.add_argument("--layers", type=int, help="default: as many as the model has")
    parser.add_argument(
        "--contestants",
        type=lambda text: text.split(","),
        default=list(CONTESTANTS),
        help=f"default: {','.join(CONTESTANTS)}",
    )
    parser.add_argument("--steps", type=int, default=2, help="timed in each turn, default: 2")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, default: 3")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--precisions",
        type=lambda text: text.split(","),
        default=list(PRECISIONS),
        help=f"default: {','.join(PRECISIONS)}; memory is measured in the first",
    )
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[512, 1024, 2048, 4096, 8192],
        help="rows whose memory is measured, default: 512,1024,2048,4096,8192",
    )
    parser.add_argument(
        "--dense-up-to",
        type=int,
        default=2048,
        help="longest row whose memory is measured with a dense mask, default: 2048",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def _speed(options: argparse.Namespace, job: dict[str, Any]) -> list[dict[str, Any]]:
    turns = []
    for _ in range(options.rounds):
        for precision in options.precisions:
            round_turns = [
                _turn({**job, "contestant": name, "precision": precision})
                for name in options.contestants
            ]
            losses = [turn["loss"] for turn in round_turns]
            limit = 1e-4 if precision == "float32" else 1e-2
            if max(losses) - min(losses) > limit * max(losses):
                sys.exit(f"the contestants' first losses differ: {losses}")
            turns += round_turns
    return turns


def _memory(options: argparse.Namespace, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        _turn({**job, "contestant": name, "tokens": tokens})
        for tokens in options.lengths
        for name in options.contestants
        if name == "structured" or tokens <= options.dense_up_to
    ]


def _turn(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    what = f"{job['contestant']}, {job['precision']}, {job['tokens']} tokens"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{what}: {found['seconds']:.2f} s, {found['peak_mb']:,.0f} MB", file=sys.stderr)
    return {**job, **found}


def _work(
    contestant: str,
    model: str,
    precision: str,
    tokens: int,
    paths: int,
    layers: int | None,
    steps: int,
    threads: int,
) -> dict[str, float]:
    """One process: a first step that warms up, then the timed ones."""
    import torch

    from parathinker.modeling.masks import additive_mask
    from parathinker.training.batch import IGNORED, pack
    from parathinker.training.loss import packed_loss

    torch.set_num_threads(threads)
    shape = CONFIGS[model] | ({"num_hidden_layers": layers} if layers else {})
    net = _model(shape, "thought_graph" if contestant == "structured" else contestant)
    # Fused, as transformers' Trainer takes it by default.
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    example = _example(tokens, paths, shape["vocab_size"])
    # One example, packed: the row lists its segments in the graph's order, without padding.
    batch = pack([example], pad_id=0)

    def dense_loss() -> Any:
        inputs = {name: batch[name] for name in ("input_ids", "position_ids", "thought_ids")}
        mask = additive_mask(example.graph)
        logits = net(**inputs, attention_mask=mask, use_cache=False).logits
        labels = batch["shift_labels"]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def step() -> float:
        half = precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            total = packed_loss(net, batch)[0] if contestant == "structured" else dense_loss()
            loss = total / tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    first = step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"loss": first, "seconds": statistics.median(seconds), "peak_mb": peak / 1e6}


def _model(shape: dict[str, Any], attention: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from parathinker.modeling.thought_embedding import attach_thought_embeddings
    from parathinker.training.attention import register

    register()
    torch.manual_seed(0)
    config = LlamaConfig(**shape, attn_implementation=attention)
    model = AutoModelForCausalLM.from_config(config)
    attach_thought_embeddings(model, std=0.02)
    return model.train()


def _example(tokens: int, paths: int, words: int) -> Any:
    """Random tokens; paths' lengths differ by up to a quarter; all but the prompt is learned."""
    from parathinker.graph import Kind, ThoughtGraph
    from parathinker.training.batch import IGNORED, EncodedExample

    rng = random.Random(0)
    shares = [rng.uniform(0.75, 1.0) for _ in range(paths)]
    left = tokens - PROMPT - SUMMARY
    lengths = [int(left * share / sum(shares)) for share in shares]
    lengths[0] += left - sum(lengths)
    graph = ThoughtGraph.parallel(PROMPT, list(enumerate(lengths, 1)), SUMMARY)
    texts = [
        tuple(rng.randrange(words) for _ in range(segment.length)) for segment in graph.segments
    ]
    labels = [
        (IGNORED,) * len(text) if segment.kind is Kind.PROMPT else (*text[1:], IGNORED)
        for segment, text in zip(graph.segments, texts, strict=True)
    ]
    return EncodedExample(graph, tuple(texts), tuple(labels))


def _speed_table(turns: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    lines = [
        f"\nForward, backward and AdamW of {settings['tokens']} tokens with {settings['paths']} "
        f"paths, {settings['model']}, {settings['layers'] or 'all'} layers, "
        f"{settings['threads']} thread(s); median of {settings['rounds']} turns.\n",
        "| precision | how | tokens/s | against eager | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for precision in dict.fromkeys(turn["precision"] for turn in turns):
        figures = {}
        for name in dict.fromkeys(turn["contestant"] for turn in turns):
            own = [t for t in turns if (t["contestant"], t["precision"]) == (name, precision)]
            rate = statistics.median(t["tokens"] / t["seconds"] for t in own)
            figures[name] = rate, statistics.median(t["peak_mb"] for t in own)
        for name, (rate, peak) in figures.items():
            ratio = f"{rate / figures['eager'][0]:.2f} ×" if "eager" in figures else "not measured"
            lines.append(
                f"| {precision} | {CONTESTANTS[name]} | {rate:,.0f} | {ratio} | {peak:,.0f} |"
            )
    return "\n".join(lines)


def _memory_table(turns: list[dict[str, Any]], precision: str) -> str:
    names = list(dict.fromkeys(turn["contestant"] for turn in turns))
    lines = [
        f"\nPeak memory of a whole process, {precision}, MB; in brackets what each further 1,024 "
        "tokens cost.\n",
        "| tokens | " + " | ".join(CONTESTANTS[name] for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    before: dict[str, dict[str, Any]] = {}
    for tokens in dict.fromkeys(turn["tokens"] for turn in turns):
        cells = []
        for name in names:
            own = [t for t in turns if (t["contestant"], t["tokens"]) == (name, tokens)]
            if not own:
                cells.append("not measured")
                continue
            cell = f"{own[0]['peak_mb']:,.0f}"
            if name in before:
                more = own[0]["peak_mb"] - before[name]["peak_mb"]
                cell += f" (+{more / (tokens - before[name]['tokens']) * 1024:,.0f})"
            before[name] = own[0]
            cells.append(cell)
        lines.append(f"| {tokens:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
