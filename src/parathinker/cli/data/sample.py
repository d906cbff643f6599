"""``parathinker data sample`` and ``data merge``: a teacher's paths, into a store that lasts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from parathinker.cli import options as o
from parathinker.cli.data.options import declare
from parathinker.errors import ParaThinkerError, UsageError

if TYPE_CHECKING:
    from parathinker.data.teacher.chat import Endpoint
    from parathinker.data.teacher.job import SamplingJob, Tally

TEACHER, SAMPLING, LIMITS, SHARDS = "Teacher", "Sampling", "Patience and cost", "Shards"
NO_KEY = "-"
SHOWN_FAILURES = 3
"""Of what was said about failures, the most frequent."""
OWN_FIELDS = {"messages", "model", "n", "seed", "stream", "temperature"}
"""Fields of a request that are not for ``--extra``."""


def sample(
    questions: Annotated[Path, typer.Argument(help="JSONL, as `data questions` writes it.")],
    output: Annotated[
        Path, declare(None, "The store, a SQLite file; a rerun goes on.", "--output", "-o")
    ],
    endpoint: Annotated[
        list[str] | None,
        declare(
            TEACHER,
            "URL or URL=MODEL of an OpenAI-compatible endpoint, ending in /v1 as a rule; "
            "may be given again, and work goes to whoever is free.",
        ),
    ] = None,
    model: Annotated[str | None, declare(TEACHER, "The model to ask for.")] = None,
    api_key_env: Annotated[
        list[str] | None,
        declare(
            TEACHER,
            "Environment variable that holds the API key; given once for all endpoints, or "
            f"once for each, {NO_KEY} where none is needed.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        declare(
            TEACHER,
            "Instead of endpoints: have this model think in its own engine (on-policy).",
        ),
    ] = None,
    paths: Annotated[int, declare(SAMPLING, "Paths of each question.", min=1)] = 8,
    temperature: Annotated[float, declare(SAMPLING, "Of the sampling.")] = 0.8,
    top_p: Annotated[
        float, declare(SAMPLING, "Sample from the likeliest tokens of this probability.")
    ] = 1.0,
    max_tokens: Annotated[
        int | None,
        declare(SAMPLING, "Tokens a path may have; by default the teacher's own limit.", min=1),
    ] = None,
    system: Annotated[str | None, declare(SAMPLING, "A system prompt.")] = None,
    prompt: Annotated[
        str, declare(SAMPLING, "What is asked; {question} is the question.")
    ] = "{question}",
    seed: Annotated[int, declare(SAMPLING, "Each path's seed follows from it.", min=0)] = 0,
    no_seed: Annotated[
        bool, declare(SAMPLING, "Send no seeds, for endpoints that refuse them.", "--no-seed")
    ] = False,
    extra: Annotated[
        str | None,
        declare(SAMPLING, 'More fields of the request, as JSON: {"reasoning_effort": "high"}.'),
    ] = None,
    concurrency: Annotated[
        int,
        declare(LIMITS, "Requests at a time at each endpoint; questions, for an engine.", min=1),
    ] = 16,
    timeout: Annotated[float, declare(LIMITS, "Seconds to wait for an answer.", min=0.1)] = 1800.0,
    retries: Annotated[
        int,
        declare(LIMITS, "How often a request is repeated before its endpoint is rested.", min=0),
    ] = 2,
    give_up_after: Annotated[
        float,
        declare(LIMITS, "Seconds until all stops because no endpoint answers any more.", min=0),
    ] = 600.0,
    retry_failed: Annotated[
        bool, declare(LIMITS, "Ask again for what earlier runs gave up.", "--retry-failed")
    ] = False,
    price_in: Annotated[float, declare(LIMITS, "Of a million tokens of prompt.", min=0)] = 0.0,
    price_out: Annotated[float, declare(LIMITS, "Of a million tokens of answer.", min=0)] = 0.0,
    max_cost: Annotated[
        float | None, declare(LIMITS, "Stop before the store's samples cost more than this.", min=0)
    ] = None,
    shard: Annotated[
        str | None, declare(SHARDS, "Only this share of the questions, as in 3/16.")
    ] = None,
    ray: Annotated[
        int | None,
        declare(SHARDS, "Sample in so many shards on Ray Data, and merge them.", min=1),
    ] = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    weights: o.Weights = "auto",
    kv_cache_memory: o.KVCacheMemory = None,
    threads: o.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Sample paths of thought from a teacher. The same command goes on where it was stopped.

    A store keeps to its questions, models, prompts and sampling settings.
    More questions and more paths may come; endpoints, keys, concurrency,
    prices and limits may change at any time.

    \b
    Examples:
      parathinker data sample questions.jsonl -o samples.sqlite \\
          --endpoint http://127.0.0.1:8000/v1 --model M --max-tokens 16384
      parathinker data sample questions.jsonl -o samples.sqlite \\
          --endpoint https://api.example.com/v1=M --api-key-env EXAMPLE_KEY \\
          --price-in 0.5 --price-out 2 --max-cost 100
      parathinker data sample questions.jsonl -o samples.sqlite --engine tiny
    """
    from parathinker.data.samples import SamplingSettings
    from parathinker.data.teacher.endpoints import Patience
    from parathinker.data.teacher.job import Prices, SamplingJob
    from parathinker.data.teacher.shards import Shard

    if bool(endpoint) == (engine is not None):
        raise UsageError(
            "say whom to ask: --endpoint URL with --model NAME, or --engine MODEL for a model in "
            "its own engine"
        )
    if engine is not None and (model or api_key_env):
        raise UsageError("--model and --api-key-env go with --endpoint; --engine names its model")
    endpoints = _endpoints(endpoint or [], model, api_key_env or [])
    if ray is not None and shard is not None:
        raise UsageError("give --shard, or --ray, which runs all shards; not both")
    settings = SamplingSettings(
        models=tuple(sorted({e.model for e in endpoints})) or (str(engine),),
        paths=paths,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        system_prompt=system,
        prompt=prompt,
        seed=None if no_seed else seed,
        extra=_extra(extra),
        shard=None if shard is None else str(Shard.parse(shard)),
    )
    job = SamplingJob(
        questions,
        output,
        settings,
        endpoints,
        engine,
        {
            "device": device,
            "dtype": dtype,
            "weights": weights,
            "kv_cache_memory": kv_cache_memory,
            "threads": threads,
        },
        concurrency,
        Patience(timeout_s=timeout, retries=retries, give_up_s=give_up_after),
        Prices(price_in, price_out, max_cost),
        retry_failed,
    )
    if ray is not None:
        from parathinker.data.teacher.on_ray import run_on_ray

        summaries = run_on_ray(job, ray)
        typer.echo(json.dumps(summaries) if as_json else f"Done: {output}, of {ray} shards")
    else:
        _run(job, as_json)


def merge(
    stores: Annotated[list[Path], typer.Argument(help="The shards' stores.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to merge them into.")],
) -> None:
    """Put the stores of several shards into one; what two of them have is kept once.

    \b
    Example:
      parathinker data merge shard-1.sqlite shard-2.sqlite -o samples.sqlite
    """
    from parathinker.data.merging import merge as merge_stores
    from parathinker.data.samples import SampleStore

    new = merge_stores(stores, output)
    with SampleStore(output) as store:
        typer.echo(
            f"{output}: {store.count('samples'):,} samples of {store.count('questions'):,} "
            f"questions, {new:,} of them new"
        )


def _run(job: SamplingJob, as_json: bool) -> None:
    from parathinker.data.teacher.job import exit_code, run_job
    from parathinker.data.teacher.progress import watching

    with watching(Console(stderr=True)) as watch:
        try:
            tally = run_job(job, watch)
        except ParaThinkerError:
            if watch.tally is not None and watch.tally.arrived:
                watch.note(f"{watch.tally.arrived:,} new samples are kept in {job.output}")
            raise
    typer.echo(json.dumps(tally.summary()) if as_json else _closing(tally, job))
    raise typer.Exit(exit_code(tally))


def _closing(tally: Tally, job: SamplingJob) -> str:
    from parathinker.data.teacher.job import MAX_COST
    from parathinker.data.teacher.progress import duration

    reason = "Done" if tally.stopped is None else f"Stopped by {tally.stopped}"
    if tally.stopped == MAX_COST:
        reason = f"Stopped at the limit of the cost, {job.prices.most:g}"
    parts = [
        f"{reason}: {tally.before + tally.arrived:,} of {tally.wanted:,} samples in {job.output}"
    ]
    if tally.arrived:
        parts.append(f"{tally.arrived:,} of them new, in {duration(tally.seconds)}")
    parts.append(f"{tally.tokens_in:,} tokens in, {tally.tokens_out:,} out")
    if tally.cost:
        parts.append(f"cost {tally.cost:,.2f}")
    if tally.failed:
        parts.append(f"{tally.failed:,} failed (--retry-failed asks for them again)")
    if tally.left:
        parts.append(f"{tally.left:,} left; the same command goes on")
    said = tally.failures.most_common(SHOWN_FAILURES)
    return "\n".join([" · ".join(parts), *(f"  {n:,} failed: {why}" for why, n in said)])


def _endpoints(texts: list[str], model: str | None, variables: list[str]) -> tuple[Endpoint, ...]:
    from parathinker.data.teacher.chat import Endpoint

    if len(variables) not in (0, 1, len(texts)):
        raise UsageError(
            f"give --api-key-env once for all endpoints or once for each of {len(texts)}; "
            f"got {len(variables)}"
        )
    for name in variables:
        if name != NO_KEY and not re.fullmatch(r"[A-Za-z_]\w*", name):
            # The text is not repeated: it may be the key itself.
            raise UsageError(
                "--api-key-env should be the name of an environment variable, such as "
                f"OPENAI_API_KEY, or {NO_KEY}; it is not the place for the key itself"
            )
    names = [None if name == NO_KEY else name for name in variables] or [None]
    each = names * len(texts) if len(names) == 1 else names
    return tuple(Endpoint.parse(text, model, name) for text, name in zip(texts, each, strict=True))


def _extra(text: str | None) -> dict[str, Any]:
    try:
        fields = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise UsageError(f"--extra should be a JSON object; got {text!r}: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"--extra should be a JSON object; got {text!r}")
    taken = sorted(OWN_FIELDS & fields.keys())
    if taken:
        raise UsageError(f"--extra may not set what other options decide: {', '.join(taken)}")
    return fields
