"""One question's way through vLLM: a request for each segment that grows.

What happens to paths and summary, which of them ends when and how, is decided where the native
engine decides it, in ``engine/running.py``: it gets one token for each growing segment at a time,
whatever vLLM has written beyond. A path's last token, forced or not, has no keys and values when
it ends; a request of one token computes them while others still grow. Then the summary's request is
put together from all paths'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from parathinker.backends.vllm.layout import Piece
from parathinker.backends.vllm.orders import Order
from parathinker.backends.vllm.sampling_params import RowParams
from parathinker.backends.vllm.seats import Taken
from parathinker.backends.vllm.streams import Ask, Stream, release, stop_streams
from parathinker.engine.choice import Choice
from parathinker.engine.protocol import Sink
from parathinker.engine.request import Penalties
from parathinker.engine.running import RunningRequest
from parathinker.engine.sampler import Sampled
from parathinker.engine.segment import LiveSegment
from parathinker.errors import EngineError
from parathinker.graph import Kind
from parathinker.tokens import ControlTokens

_FORCED = Sampled(-1, 0.0, True)
"""Stands for a token that nobody looks at, since the segment's next one is forced."""


class Course:
    """Drives one request to its end.

    Args:
        name: unique in the engine.
        number: the questions' order; vLLM serves the older ones first.
        rank: which of several data-parallel engines all of its requests go to.
    """

    def __init__(
        self,
        llm: Any,
        running: RunningRequest,
        control: ControlTokens | None,
        banned: frozenset[int],
        name: str,
        number: int,
        rank: int | None,
    ) -> None:
        self._llm, self._running, self._control = llm, running, control
        self._name, self._number, self._rank = name, number, rank
        self._choice = Choice(running.request, control, banned)
        self._streams: dict[int, Stream] = {}
        self._asked = 0
        self._drawn: dict[int, int] = {}
        """By segment: how often a token was chosen for it."""
        self._same: dict[int, int] = {}
        """By segment: with how many of its context's tokens its last stream agrees."""
        self._first: list[Stream] = []
        """All streams until the first token; vLLM takes them in any order."""
        self.begun = False
        """Whether the first token came."""

    async def run(self, sink: Sink, seats: Taken) -> None:
        """Think; the sink hears of every step, but not of the end.

        Raises:
            EngineError: vLLM failed, or the model computes NaN.
        """
        try:
            while not self._running.done:
                await self._step(sink, seats)
        finally:
            # Whoever cancels finds the memory free: this part is not cancelled.
            await asyncio.shield(asyncio.ensure_future(self._leave()))

    async def _step(self, sink: Sink, seats: Taken) -> None:
        running = self._running
        growing = running.growing
        if growing[0].kind is Kind.SUMMARY and not running.request.plain:
            await self._close_paths()
            if len(running.rounds) == running.request.rounds:
                seats.keep(1)
        for segment in growing:
            if segment.index not in self._streams and not segment.ending:
                self._streams[segment.index] = self._grow(segment)
        chosen = [await self._next(segment) for segment in growing]
        if not self.begun:
            self.begun = True
            found = min(stream.cached_tokens for stream in self._first)
            running.cached_tokens = min(found, len(running.prompt.token_ids))
            self._first.clear()
        running.check_sound(chosen)
        before = [len(segment.token_ids) for segment in growing]
        events = running.accept(chosen)
        sink.events(events)
        ending = []
        for segment, length, one in zip(growing, before, chosen, strict=True):
            self._drawn[segment.index] = self._drawn.get(segment.index, 0) + 1
            as_chosen = segment.token_ids[length:] == [one.token]
            if segment.finish_reason is None and not segment.ending and as_chosen:
                stream = self._streams[segment.index]
                if not stream.exhausted:
                    continue
            ending.append(segment)
            if segment.index in self._streams:
                self._same[segment.index] = len(self._context(segment)) + length + as_chosen
        await self._end_streams(ending)

    async def _next(self, segment: LiveSegment) -> Sampled:
        if segment.ending:
            return _FORCED
        token = await self._streams[segment.index].next()
        if token is None:
            raise EngineError("vLLM ended a request before its time")
        return token

    async def _end_streams(self, segments: Sequence[LiveSegment]) -> None:
        """Segments end, or go on otherwise than their streams."""
        ending = [self._streams[s.index] for s in segments if s.index in self._streams]
        await stop_streams(ending)
        for segment in segments:
            self._streams.pop(segment.index, None)
            if segment.kind is Kind.PATH and segment.finish_reason is not None:
                self._streams[segment.index] = self._close(segment)

    async def _leave(self) -> None:
        streams, self._streams = list(self._streams.values()), {}
        await stop_streams(streams)
        if not (self._running.done or self._running.request.plain):
            await release(self._llm, f"{self._name}-end", self._name, self._rank)

    # -- vLLM's requests ------------------------------------------------------------------------

    def _grow(self, segment: LiveSegment) -> Stream:
        """Ask vLLM to write a segment on."""
        r = self._running.request
        path = segment.kind is Kind.PATH
        limits = r.path if path else r.summary
        written = len(segment.token_ids) - (1 if path else segment.forced)
        stop = r.end_ids
        if self._control is not None and not r.plain:
            closing = self._control.closes[segment.thought_id - 1] if path else None
            stop |= {self._control.summary_close if closing is None else closing}
        return self._ask(
            segment,
            [*self._context(segment), *segment.token_ids],
            limits.max_tokens - written,
            row=self._row(segment, limits.temperature),
            stop=stop,
            top_logprobs=r.top_logprobs,
        )

    def _row(self, segment: LiveSegment, temperature: float) -> RowParams:
        r, choice = self._running.request, self._choice
        p = r.penalties
        penalised = p != Penalties()
        return RowParams(
            temperature,
            r.top_k,
            r.top_p,
            r.min_p,
            choice.seed(segment) if temperature else "",
            self._drawn.get(segment.index, 0),
            choice.banned(segment, early=False),
            choice.early_tokens(segment),
            choice.banned(segment, early=True),
            [p.repetition, p.frequency, p.presence] if penalised else [],
            sorted(choice.prompts) if penalised else [],
            segment.token_ids[segment.lent :] if penalised else [],
        )

    async def _close_paths(self) -> None:
        """See to it that all tokens of the round's paths have keys and values."""
        summary = self._running.growing[0]
        if summary.index in self._streams or len(summary.token_ids) > summary.forced:
            return
        paths = self._running.rounds[-1].paths
        for path in paths:
            if path.index not in self._streams:  # it was given
                self._streams[path.index] = self._close(path)
        closing = [self._streams[path.index] for path in paths]
        await asyncio.gather(*(stream.next() for stream in closing))
        await stop_streams(closing)
        for path in paths:
            del self._streams[path.index]

    def _close(self, path: LiveSegment) -> Stream:
        """Ask vLLM for keys and values of all that a complete path says."""
        return self._ask(path, [*self._context(path), *path.token_ids], 1)

    def _ask(
        self, segment: LiveSegment, tokens: list[int], max_tokens: int, **options: Any
    ) -> Stream:
        self._asked += 1
        order = None
        if not self._running.request.plain:
            key, same = _key(segment), self._same.get(segment.index)
            order = Order(
                self._name,
                key,
                self._pieces(segment),
                None if same is None else (key, min(same, len(tokens) - 1)),
                last=segment.kind is Kind.SUMMARY and segment.round == self._running.request.rounds,
            )
        ask = Ask(
            f"{self._name}-{self._asked}",
            tokens,
            max_tokens,
            order,
            rank=self._rank,
            priority=self._number,
            **options,
        )
        stream = Stream(self._llm, ask)
        if not self.begun:
            self._first.append(stream)
        return stream

    def _context(self, segment: LiveSegment) -> list[int]:
        """All tokens in front of a segment, in the order of writing."""
        running = self._running
        if running.request.plain:
            return list(running.prompt.token_ids)
        tokens = list(running.prompt.token_ids)
        for one in running.rounds[: segment.round - 1]:
            assert one.summary is not None
            for before in (*one.paths, one.summary):
                tokens += before.token_ids
        if segment.kind is Kind.SUMMARY:
            for path in running.rounds[segment.round - 1].paths:
                tokens += path.token_ids
        return tokens

    def _pieces(self, segment: LiveSegment) -> tuple[Piece, ...]:
        """Which stored keys and values a segment's context is put together from."""
        rounds = self._running.rounds
        if segment.kind is Kind.PATH:
            if segment.round == 1:
                return ()
            before = rounds[segment.round - 2].summary
            assert before is not None
            # Its last token has not been through the model.
            return (Piece(_key(before), 0, len(self._context(segment)) - 1),)
        pieces = []
        for i, path in enumerate(rounds[segment.round - 1].paths):
            start = len(self._context(path))
            pieces.append(Piece(_key(path), start if i else 0, start + len(path.token_ids)))
        return tuple(pieces)


def _key(segment: LiveSegment) -> str:
    return f"{segment.round}.{segment.thought_id}"
