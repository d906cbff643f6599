"""Long paths without waiting for them: prefill reads what is forced, all but the last tokens."""

from __future__ import annotations

from dataclasses import dataclass

from parathinker.bench.machine import Limits
from parathinker.bench.roofline import Context
from parathinker.bench.setting import Bench
from parathinker.bench.workload import exactly, text_of

_SUMMARY = 2


@dataclass(frozen=True)
class ForcedRun:
    """A job with long paths."""

    limits: Limits
    step_s: float
    summary_ttft_s: float
    context: Context
    """What a step saw, on average."""


def need_room(bench: Bench, prompt: int, path: int) -> None:
    """Raise UsageError where such paths do not fit the model's context."""
    what = f"a prompt of {prompt:,} tokens with paths of {path:,}"
    bench.need_context(prompt + path + _SUMMARY + 3, what)


def run_forced(bench: Bench, prompt: int, path: int, paths: int, seed: int) -> ForcedRun:
    """Run paths of ``path`` tokens, the last of them decoded, and time a step at that length."""
    fresh = min(bench.sizes.fresh, path - 1)
    prefix = text_of(path - fresh, bench.codec.encode_text)
    before = bench.machine.probe()
    timings = bench.run(
        bench.question(prompt), exactly(paths, path, _SUMMARY, seed, path_prefix=prefix)
    )
    limits = before.mean(bench.machine.probe())
    decoded = path - len(bench.codec.encode_text(prefix))
    return ForcedRun(
        limits,
        timings.think_s / (decoded - 1),
        timings.summary_ttft_s,
        Context(prompt, path - decoded / 2),
    )
