"""Hours of random load on a small engine: does everything end, stay exact, and leave no trace?

Run: python benchmarks/soak.py --minutes 30 [--model tiny] [--report runs/soak/report.md]
Clients ask, follow up, leave in the middle, give wrong parameters, and some meet NaN that is put
into their logits. All the while it is checked that every request ends in an answer or a typed
error, that answers asked again alone are the same, and that neither KV memory, nor the process's
memory, nor the number of threads grows. The report is Markdown; the exit code is 1 if any of it
was violated.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parathinker import (
    Answer,
    CapacityError,
    Done,
    NumericalError,
    ParaThinker,
    ParaThinkerError,
    ThinkingParams,
    UsageError,
)
from parathinker.engine.sampler import Sampled, SamplingRow

UNSOUND_TOP_K = 7_654
"""Requests with this top_k meet NaN."""
GROWTH_ALLOWED = 0.05
"""Of the process's memory, from the first quarter of the run to the last, once warm."""
SLACK_MIB = 32


class NanInjector:
    """Stands before the engine's runner and spoils the logits of requests that ask for it."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
        """As the runner does, after putting NaN where it is wanted."""
        spoiled = [r for r, row in enumerate(rows) if row.top_k == UNSOUND_TOP_K]
        if spoiled:
            logits_RV = logits_RV.clone()
            logits_RV[spoiled] = torch.nan
        return self._runner.sample(logits_RV, rows)


@dataclasses.dataclass
class Sample:
    """The process at a moment."""

    at_s: float
    rss_mib: float
    in_use_mib: float
    threads: int


class Soak:
    """One run: clients, what they saw, and what should not have happened."""

    def __init__(
        self, model: ParaThinker, minutes: float, clients: int, seed: int, patience_s: float
    ) -> None:
        self.model, self.minutes, self.clients = model, minutes, clients
        self.seed, self.patience_s = seed, patience_s
        self.ends: Counter[str] = Counter()
        self.violations: list[str] = []
        self.samples: list[Sample] = []
        self.verified = self.tokens = 0
        self._recent: list[tuple[Answer, str]] = []
        self._begun = self._until = 0.0

    async def run(self) -> None:
        """Load for so many minutes, then wait until all is quiet."""
        self._begun = time.monotonic()
        self._until = self._begun + 60 * self.minutes
        clients = [
            asyncio.ensure_future(self._client(random.Random(f"{self.seed}/{number}")))
            for number in range(self.clients)
        ]
        watch = asyncio.ensure_future(self._watch())
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, BaseException):
                self._violated(f"a client broke: {type(result).__name__}: {result}")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        self.seconds = time.monotonic() - self._begun
        self._sample()

    def _violated(self, what: str) -> None:
        self.violations.append(f"{time.monotonic() - self._begun:.0f} s: {what}")
        print("VIOLATED", self.violations[-1], file=sys.stderr, flush=True)

    # -- load -----------------------------------------------------------------------------------

    async def _client(self, choose: random.Random) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(choose.expovariate(200))
            roll = choose.random()
            try:
                if roll < 0.02:
                    await asyncio.wait_for(self._verify(choose), self.patience_s)
                else:
                    await asyncio.wait_for(self._ask(choose), self.patience_s)
            except TimeoutError:
                self._violated(f"a request had not ended after {self.patience_s:.0f} s")

    async def _ask(self, choose: random.Random) -> None:
        question, params = any_question(choose), any_params(choose)
        after = None
        if self._recent and choose.random() < 0.2:
            after = choose.choice(self._recent)[0]
            # A conversation of three turns is long enough for this memory.
            after = after if after.after is None or after.after.after is None else None
        fate = choose.choices(["answered", "left", "cancelled", "failed"], [80, 8, 8, 4])[0]
        if fate == "failed":
            params = dataclasses.replace(params, top_k=UNSOUND_TOP_K)
        try:
            if fate == "cancelled":
                await self._cancel(choose, question, params, after)
            elif fate == "left":
                await self._leave(choose, question, params, after)
            else:
                answer = await self.model.athink(question, params, after=after)
                assert isinstance(answer, Answer)
                self._answered(question, answer)
                if fate == "failed":
                    self._violated("NaN in the logits went unnoticed")
        except NumericalError:
            self.ends["failed"] += 1
            if fate == "answered":
                self._violated("NaN reached a request that it was not meant for")
        except (CapacityError, UsageError):
            self.ends["refused"] += 1
        except ParaThinkerError as error:
            self.ends["failed"] += 1
            self._violated(f"a request failed: {error}")

    async def _cancel(
        self, choose: random.Random, question: str, params: ThinkingParams, after: Answer | None
    ) -> None:
        task = asyncio.ensure_future(self.model.athink(question, params, after=after))
        await asyncio.sleep(choose.random() * 0.1)
        task.cancel()
        try:
            answer = await task
        except asyncio.CancelledError:
            self.ends["cancelled"] += 1
        else:
            assert isinstance(answer, Answer)
            self._answered(question, answer)

    async def _leave(
        self, choose: random.Random, question: str, params: ThinkingParams, after: Answer | None
    ) -> None:
        stream = self.model.astream(question, params, after=after)
        patience = choose.randint(0, 60)
        try:
            async for event in stream:
                patience -= 1
                if isinstance(event, Done):
                    self._answered(question, event.answer)
                    return
                if patience < 0:
                    break
        finally:
            await stream.aclose()
        self.ends["cancelled"] += 1

    def _answered(self, question: str, answer: Answer) -> None:
        self.ends["answered"] += 1
        self.tokens += answer.usage.path_tokens + answer.usage.summary_tokens
        self._recent.append((answer, question))
        del self._recent[:-200]

    async def _verify(self, choose: random.Random) -> None:
        """Ask again what was answered: the tokens have to be the same."""
        if not self._recent:
            return
        answer, question = choose.choice(self._recent)
        again = await self.model.athink(question, answer.params, after=answer.after)
        assert isinstance(again, Answer)
        self.verified += 1
        if tokens_of(again) != tokens_of(answer):
            self._violated(f"asked again, {question!r} with {answer.params} has another answer")

    # -- watching -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(max(0.2, min(5.0, 60 * self.minutes / 100)))

    def _sample(self) -> None:
        load = self.model.load()
        kv = load.kv
        if kv.in_use + kv.kept > kv.capacity:
            self._violated(f"KV memory: {kv.in_use} in use, {kv.kept} kept of {kv.capacity}")
        if kv.live_tokens * kv.bytes_per_token > kv.in_use:
            self._violated(f"{kv.live_tokens} live tokens in {kv.in_use} bytes")
        threads = sum(t.name == "parathinker-engine" for t in threading.enumerate())
        if threads > 1:
            self._violated(f"{threads} engine threads")
        self.samples.append(
            Sample(
                time.monotonic() - self._begun,
                resident_mib(),
                kv.in_use / 2**20,
                threading.active_count(),
            )
        )

    def check_end(self) -> None:
        """What has to hold when all requests have ended."""
        load = self.model.load()
        if load.running or load.waiting or load.kv.in_use or load.kv.live_tokens:
            self._violated(f"something is left behind: {load}")
        self.model.forget_prefixes()
        if self.model.load().kv.kept:
            self._violated("prefixes were not forgotten")
        parts = self.quarters()
        allowed = parts[1] * (1 + GROWTH_ALLOWED) + SLACK_MIB
        if parts[3] > allowed:
            self._violated(f"memory grew from {parts[1]:.0f} MiB to {parts[3]:.0f} MiB")
        if not self.ends["answered"]:
            self._violated("nothing was answered")
        # Executor threads of the event loop come and go; engine threads were counted above.
        if self.samples[-1].threads > self.samples[0].threads + 40:
            self._violated(f"threads grew to {self.samples[-1].threads}")

    def quarters(self) -> list[float]:
        """Median resident memory of each quarter of the run, MiB."""
        n = len(self.samples)
        parts = [self.samples[q * n // 4 : max((q + 1) * n // 4, q * n // 4 + 1)] for q in range(4)]
        return [statistics.median(s.rss_mib for s in part) for part in parts]

    def report(self, name: str) -> str:
        """The figures, in Markdown."""
        load, ends = self.model.load(), self.ends
        total = sum(ends.values())
        rss = self.samples
        middle = rss[len(rss) // 2]
        rows = [
            ("requests", f"{total:,}"),
            ("answered", f"{ends['answered']:,}"),
            ("left or cancelled in the middle", f"{ends['cancelled']:,}"),
            ("failed, by NaN put into their logits", f"{ends['failed']:,}"),
            ("refused, too large for the memory", f"{ends['refused']:,}"),
            ("asked again for comparison", f"{self.verified:,}"),
            ("gave way to others for lack of memory", f"{load.preemptions:,}"),
            ("seconds", f"{self.seconds:,.0f}"),
            ("requests a second", f"{total / self.seconds:.1f}"),
            ("tokens written a second", f"{self.tokens / self.seconds:,.0f}"),
            ("KV memory", f"{load.kv.capacity / 2**20:.1f} MiB"),
            ("KV memory in use, at most", f"{max(s.in_use_mib for s in rss):.1f} MiB"),
            ("KV memory in use, at the end", f"{load.kv.in_use / 2**20:.1f} MiB"),
            (
                "resident memory: start, middle, end",
                f"{rss[0].rss_mib:.0f}, {middle.rss_mib:.0f}, {rss[-1].rss_mib:.0f} MiB",
            ),
            (
                "resident memory, median of each quarter",
                ", ".join(f"{part:.0f}" for part in self.quarters()) + " MiB",
            ),
            ("threads: start, end", f"{rss[0].threads}, {rss[-1].threads}"),
            ("violations", str(len(self.violations))),
        ]
        lines = [f"# Soak: {name}, {self.clients} clients, seed {self.seed}", ""]
        lines += ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
        lines += ["", *(f"- {violation}" for violation in self.violations)]
        return "\n".join(lines).rstrip() + "\n"


def any_question(choose: random.Random) -> str:
    """Some begin alike, so that prompts are found in memory, and are evicted from it."""
    beginning = choose.choice(["", "", "Think about this carefully, please. " * 2])
    return beginning + f"What is {choose.randint(1, 99999)} * {choose.randint(1, 300)}?"


def any_params(choose: random.Random) -> ThinkingParams:
    """Short requests of every kind."""
    changes: dict[str, Any] = {
        "paths": choose.choice([1, 2, 2, 4, 8]),
        "max_path_tokens": choose.choice([4, 8, 16, 32]),
        "max_summary_tokens": choose.choice([4, 8, 16]),
        "termination": choose.choice(["first-finish", "half-finish", "last-finish"]),
        "temperature": choose.choice([0.0, 0.7, 1.3]),
        "top_p": choose.choice([1.0, 0.9]),
        "seed": choose.randrange(2**31),
        "logprobs": choose.random() < 0.5,
    }
    if choose.random() < 0.1:
        changes |= {"paths": "auto", "max_paths": 6, "termination": "first-finish"}
    if choose.random() < 0.1:
        changes["rounds"] = 2
    if choose.random() < 0.1:
        changes["budget"] = choose.randint(8, 100)
    if choose.random() < 0.1:
        changes |= {"max_path_tokens": 24, "min_path_tokens": 12, "continuation": "\n"}
    if choose.random() < 0.1:
        changes |= {"repetition_penalty": 1.2, "frequency_penalty": 0.2}
    if choose.random() < 0.1:
        changes["stop"] = ("=", "9")
    if choose.random() < 0.02:
        # Larger than the memory.
        changes |= {"paths": 8, "max_paths": None, "max_path_tokens": 1000, "rounds": 2}
    return ThinkingParams(**changes)


def tokens_of(answer: Answer) -> list[list[int]]:
    """All that was written."""
    return [segment.token_ids for one in answer.rounds for segment in (*one.paths, one.summary)]


def resident_mib() -> float:
    """Memory that this process holds."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """Run, report, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="name, folder or hub id")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--kv-cache-memory", default="12MiB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=300, help="a request of so many s hangs")
    parser.add_argument("--report", type=Path, help="where to write the report as well")
    options = parser.parse_args()
    model = ParaThinker.from_pretrained(
        options.model, kv_cache_memory=options.kv_cache_memory, max_batch_tokens=64
    )
    model._engine._runner = NanInjector(model._engine._runner)
    soak = Soak(model, options.minutes, options.clients, options.seed, options.patience)
    asyncio.run(soak.run())
    gc.collect()
    soak.check_end()
    report = soak.report(options.model)
    print(report, end="")
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(report, "utf-8")
    model.close()
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main())
