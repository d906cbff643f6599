"""Two questions, answered by vLLM and by the rule: do they agree?

The paths of one are given, those of the other written, by chance. It runs when vLLM has started,
takes a moment, and tells an unsupported vLLM, attention backend or memory layout from a supported
one before anybody gets a wrong answer of it.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Sequence
from dataclasses import replace

from parathinker.backends.vllm.engine import VLLMEngine
from parathinker.backends.vllm.layout import Openings, words
from parathinker.engine.request import EngineRequest, Event, Growth, Likeliest
from parathinker.engine.running import RunningRequest
from parathinker.errors import EngineError, ParaThinkerError
from parathinker.graph import ThoughtGraph
from parathinker.modeling.config import DecoderConfig
from parathinker.prompt import PromptCodec

TOLERANCE = {4: 1e-3, 2: 0.25}
"""Largest difference of a log-probability that rounding explains, by bytes of a number."""
_SUMMARY_TOKENS = 3
_LIKELIEST = 5
_HOT = 100.0
"""A temperature at which hardly a token is the likeliest."""


class _Wait:
    """A sink that waits for the end."""

    def __init__(self) -> None:
        self.end: queue.SimpleQueue[RunningRequest | ParaThinkerError] = queue.SimpleQueue()

    def events(self, events: Sequence[Event]) -> None:
        pass

    def finished(self, running: RunningRequest) -> None:
        self.end.put(running)

    def failed(self, error: ParaThinkerError) -> None:
        self.end.put(error)


def run_self_test(engine: VLLMEngine, codec: PromptCodec, config: DecoderConfig) -> float:
    """Ask; the largest difference is returned.

    Raises:
        EngineError: it is larger than rounding explains, our sampler is not asked, or vLLM failed.
    """
    given = _request(engine, codec, config)
    summed, thought = _answer(engine, given), _answer(engine, _unthought(engine, given))
    difference = max(_differences(engine, codec, summed) + _differences(engine, codec, thought))
    size = engine.limits.bytes_per_token // (
        2 * config.num_layers * config.num_kv_heads * config.head_dim
    )
    if not difference <= TOLERANCE[size]:
        raise EngineError(
            f"this vLLM answers wrongly: in the self-test its log-probabilities are off by "
            f"{difference:.2g}. Its version, attention backend or settings are not supported; the "
            "table of supported ones is in docs/vllm.md"
        )
    if all(token == likeliest[0][0] for _, token, likeliest in _chosen(thought)):
        raise EngineError(
            "this vLLM chooses tokens without our sampler. Its version or settings are not "
            "supported; the table of supported ones is in docs/vllm.md"
        )
    return difference


def _answer(engine: VLLMEngine, request: EngineRequest) -> RunningRequest:
    engine.check(request)
    sink = _Wait()
    job = engine.submit(request, sink)
    try:
        ended = sink.end.get(timeout=300)
    except queue.Empty:
        engine.cancel(job)
        raise EngineError("vLLM did not answer the self-test within five minutes") from None
    if isinstance(ended, ParaThinkerError):
        raise EngineError(f"the vLLM self-test failed: {ended}") from ended
    return ended


def _request(engine: VLLMEngine, codec: PromptCodec, config: DecoderConfig) -> EngineRequest:
    """Three ragged paths: blocks are shared, tails are copied, and one is all tail."""
    size = engine.limits.block_tokens
    room = min(config.max_context, engine.limits.context)
    size = min(size, max(1, (room - 40) // 8))
    taken = codec.control_ids
    plain = [t for t in range(min(config.vocab_size, 997)) if t not in taken]

    def text(length: int, seed: int) -> tuple[int, ...]:
        return tuple(plain[(seed * 131 + i * (37 + seed)) % len(plain)] for i in range(length))

    lengths = (size + 3, 1, 2 * size + 1)[: codec.max_paths]
    growth = Growth(_SUMMARY_TOKENS, _SUMMARY_TOKENS, 0.0)
    return EngineRequest(
        prompt=text(size + 5, 1),
        thought_ids=tuple(range(1, len(lengths) + 1)),
        paths_to_finish=len(lengths),
        path=Growth(max(lengths) + 1, 0, 0.0),
        summary=growth,
        budget=None,
        summary_prefix=(),
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
        top_logprobs=min(_LIKELIEST, config.vocab_size),
        given_paths=tuple(text(length, 2 + i) for i, length in enumerate(lengths)),
    )


def _unthought(engine: VLLMEngine, given: EngineRequest) -> EngineRequest:
    """The same question, its paths to be thought."""
    ids, growth = given.thought_ids[: engine.limits.seats], Growth(_SUMMARY_TOKENS, 0, _HOT)
    return replace(
        given,
        thought_ids=ids,
        paths_to_finish=len(ids),
        path=growth,
        summary=growth,
        given_paths=None,
    )


def _chosen(ended: RunningRequest) -> list[tuple[int, int, Likeliest]]:
    """Tokens that were chosen: their index behind the prompt, id, and what was likely there."""
    last = ended.rounds[0]
    assert last.summary is not None
    tokens = [
        token
        for segment in (*last.paths, last.summary)
        for token in zip(segment.token_ids, segment.likeliest, strict=True)
    ]
    return [(at, *token) for at, token in enumerate(tokens) if token[1]]


def _differences(engine: VLLMEngine, codec: PromptCodec, ended: RunningRequest) -> list[float]:
    paths, summary = ended.rounds[0].paths, ended.rounds[0].summary
    assert summary is not None
    prompt = ended.prompt.token_ids
    graph = ThoughtGraph.parallel(
        len(prompt),
        [(path.thought_id, len(path.token_ids)) for path in paths],
        len(summary.token_ids),
    )
    tokens = [*prompt, *(t for path in paths for t in path.token_ids), *summary.token_ids]
    words_T, _ = words(tokens, Openings(codec.control.opens, codec.control.summary_open))
    chosen = [(at, likeliest) for at, _, likeliest in _chosen(ended)]
    wanted = [(len(prompt) + at - 1, [t for t, _ in likeliest]) for at, likeliest in chosen]
    arguments = (tokens, words_T.tolist(), graph.token_segments(), graph.reads(), wanted)

    async def ask(llm: object) -> list[list[list[float]]]:
        return await llm.collective_rpc(  # type: ignore[attr-defined,no-any-return]
            "parathinker_logprobs", args=arguments
        )

    expected = next(found for found in engine.ask(ask) if found)
    differences = [
        abs(logprob - theirs)
        for (_, likeliest), row in zip(chosen, expected, strict=True)
        for (_, logprob), theirs in zip(likeliest, row, strict=True)
    ]
    return [d if math.isfinite(d) else math.inf for d in differences]
