"""How a server bears many streaming clients: times, throughput, errors, memory.

Run: python benchmarks/load_test.py [--clients 64] [--seconds 120] [--paths 8] [--json FILE]
It starts a server of its own on a free loopback port. Each client asks, reads the stream to its
end, and asks again; at the end those under way are read to their end. Clients and server share the
machine. The exit code is 1 if there was an error, if KV memory was not given back, or if the
server's memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from served import Served, served

GROWTH_ALLOWED = 0.05
"""Of the server's memory, from the second quarter of the run to the last."""
SLACK_MIB = 32
LAST_ANSWERS_S = 60
"""For what is under way when the time is up."""


@dataclass
class Figures:
    """What was seen."""

    first_s: list[float] = field(default_factory=list)
    """From a request to the first token of any path."""
    total_s: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    rss_mib: list[float] = field(default_factory=list)
    """Of the server, a sample a second."""
    seconds: float = 0.0
    kv_in_use: float = -1.0
    """Bytes of KV memory that requests still held when all had ended."""


class BrokenStream(Exception):
    """A stream that ended otherwise than it should have."""


async def client(
    http: httpx.AsyncClient, figures: Figures, choose: random.Random, paths: int, until: float
) -> None:
    """Ask until the time is up."""
    while time.monotonic() < until:
        question = f"What is {choose.randint(10000, 99999)} * {choose.randint(10000, 99999)}?"
        try:
            await ask(http, figures, question, paths)
        except BrokenStream as error:
            figures.errors[str(error)] += 1
        except httpx.HTTPError as error:
            figures.errors[type(error).__name__] += 1
            await asyncio.sleep(0.5)


async def ask(http: httpx.AsyncClient, figures: Figures, question: str, paths: int) -> None:
    """One request, its stream read to the end."""
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "thinking": {"paths": paths, "show": "paths"},
    }
    began, first, last, ended = time.monotonic(), None, "", False
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise BrokenStream(f"status {response.status_code}")
        async for line in response.aiter_lines():
            if first is None and '"event":"token"' in line:
                first = time.monotonic() - began
            if line.startswith("data: {"):
                last = line
            ended = ended or line == "data: [DONE]"
    if not ended or first is None:
        error = json.loads(last.removeprefix("data: ") or "{}").get("error", {})
        raise BrokenStream(f"stream: {error.get('code', 'cut short')}")
    figures.first_s.append(first)
    figures.total_s.append(time.monotonic() - began)
    figures.tokens += json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"]


async def watch(server: Served, figures: Figures) -> None:
    """Sample the server's memory."""
    while True:
        figures.rss_mib.append(server.resident_mib())
        await asyncio.sleep(1)


async def run(server: Served, clients: int, seconds: float, paths: int) -> Figures:
    """The whole test."""
    figures = Figures()
    limits = httpx.Limits(max_connections=clients + 2)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
        for number in range(3):  # the first requests are slower, and make the process grow
            await ask(http, Figures(), f"What is {number + 12} * 34?", paths)
        watching = asyncio.create_task(watch(server, figures))
        began = time.monotonic()
        asking = [
            asyncio.create_task(
                client(http, figures, random.Random(number), paths, began + seconds)
            )
            for number in range(clients)
        ]
        late = (await asyncio.wait(asking, timeout=seconds + LAST_ANSWERS_S))[1]
        figures.seconds = time.monotonic() - began
        if late:
            figures.errors["not answered in time"] += len(late)
        for task in (*asking, watching):
            task.cancel()
        ended = await asyncio.gather(*asking, watching, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                figures.errors[type(error).__name__] += 1
        figures.kv_in_use = await metric(http, 'parathinker_kv_bytes{use="in_use"}')
    return figures


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """A metric's value now."""
    text = (await http.get("/metrics")).text
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(values[0])


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The 50th, 95th and 99th."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p95", "p99"), values[0] if values else float("nan"))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def quarters(values: Sequence[float]) -> list[float]:
    """The median of each quarter."""
    n = len(values)
    parts = [values[q * n // 4 : max((q + 1) * n // 4, q * n // 4 + 1)] for q in range(4)]
    return [statistics.median(part) for part in parts]


def violations(figures: Figures) -> list[str]:
    """What should not have happened."""
    found = [f"{count} x {what}" for what, count in figures.errors.items()]
    if not figures.total_s:
        found.append("nothing was answered")
    if figures.kv_in_use != 0:
        found.append(f"{figures.kv_in_use:.0f} bytes of KV memory are still in use")
    parts = quarters(figures.rss_mib)
    if parts[3] > parts[1] * (1 + GROWTH_ALLOWED) + SLACK_MIB:
        found.append(f"the server's memory grew from {parts[1]:.0f} to {parts[3]:.0f} MiB")
    return found


def document(figures: Figures, options: argparse.Namespace, wrong: Sequence[str]) -> dict[str, Any]:
    """All figures, for JSON."""
    rss = figures.rss_mib
    return {
        "clients": options.clients,
        "paths": options.paths,
        "seconds": round(figures.seconds, 1),
        "answers": len(figures.total_s),
        "answers_per_s": len(figures.total_s) / figures.seconds,
        "tokens_per_s": figures.tokens / figures.seconds,
        "first_token_s": percentiles(figures.first_s),
        "answer_s": percentiles(figures.total_s),
        "errors": dict(figures.errors),
        "resident_mib": {"start": rss[0], "middle": rss[len(rss) // 2], "end": rss[-1]},
        "resident_mib_median_of_quarters": [round(part, 1) for part in quarters(rss)],
        "kv_bytes_in_use_at_end": figures.kv_in_use,
        "violations": list(wrong),
    }


def table(found: dict[str, Any]) -> str:
    """The same in Markdown."""

    def times(name: str) -> str:
        return " / ".join(f"{value:.2f}" for value in found[name].values()) + " s"

    memory = found["resident_mib"]
    errors = ", ".join(f"{count} x {what}" for what, count in found["errors"].items())
    rows = [
        ("clients, all the time", f"{found['clients']}, {found['paths']} paths each"),
        ("seconds", f"{found['seconds']:.0f}"),
        ("answers", f"{found['answers']:,}"),
        ("errors", errors or "none"),
        ("first token of a path, p50 / p95 / p99", times("first_token_s")),
        ("whole answer, p50 / p95 / p99", times("answer_s")),
        ("answers a second", f"{found['answers_per_s']:.2f}"),
        ("tokens a second", f"{found['tokens_per_s']:,.0f}"),
        (
            "server's memory: start, middle, end",
            f"{memory['start']:.0f}, {memory['middle']:.0f}, {memory['end']:.0f} MiB",
        ),
        ("KV memory in use at the end", f"{found['kv_bytes_in_use_at_end']:.0f} bytes"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


def main() -> int:
    """Run, print, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--paths", type=int, default=8)
    # Enough for the paths that run at a time, and full soon: prompts that are kept for later
    # requests fill what there is, and would otherwise look like growth.
    parser.add_argument("--kv-cache-memory", default="144MiB")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    # A signal ends it through the block below, which takes the server along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with served("tiny", "--kv-cache-memory", options.kv_cache_memory) as server:
        figures = asyncio.run(run(server, options.clients, options.seconds, options.paths))
    wrong = violations(figures)
    found = document(figures, options, wrong)
    print(table(found), *(f"VIOLATED: {what}" for what in wrong), sep="\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
