"""The engine's loop: admit requests, run one forward for all of them, sample, hand out tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch

from parathinker.engine.attention import SegmentAttention
from parathinker.engine.kv_cache import SiblingCache
from parathinker.engine.request import EngineRequest, Event, RunningRequest
from parathinker.engine.sampler import sample, token_logprobs
from parathinker.modeling.decoder import Decoder
from parathinker.tokens import ControlTokens

MAX_ROWS = 128
"""Paths that grow side by side, over all requests; further requests wait."""


class Engine:
    """Runs requests on one decoder; any number at once, in any phase, in one forward a step."""

    def __init__(self, decoder: Decoder, control: ControlTokens, max_rows: int = MAX_ROWS) -> None:
        self._decoder, self._control, self._max_rows = decoder, control, max_rows

    def run(
        self, requests: Sequence[EngineRequest]
    ) -> Iterator[tuple[RunningRequest, list[Event]]]:
        """Work off requests; yields every request's new events after each of its steps.

        Closing the iterator drops all that is running and frees its memory.
        """
        waiting = deque(requests)
        running: list[RunningRequest] = []
        while waiting or running:
            rows = sum(len(r.paths) for r in running)
            while waiting and (not running or rows + len(waiting[0].thought_ids) <= self._max_rows):
                request = RunningRequest(waiting.popleft(), self._control, self._new_cache)
                rows += len(request.paths)
                running.append(request)
            yield from self._step(running)
            running = [request for request in running if not request.done]

    @torch.inference_mode()
    def _step(self, running: Sequence[RunningRequest]) -> list[tuple[RunningRequest, list[Event]]]:
        inputs = [request.next_input() for request in running]
        device = self._decoder.device

        def tensor(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, device=device, dtype=torch.long)

        offsets, total = [], 0
        for step in inputs:
            offsets.append(total)
            total += len(step.tokens)
        logits_RV = self._decoder.forward(
            tensor([t for step in inputs for t in step.tokens]),
            tensor([p for step in inputs for p in step.positions]),
            tensor([i for step in inputs for i in step.thought_ids]),
            SegmentAttention(
                [strand for step in inputs for strand in step.strands], device, self._decoder.dtype
            ),
            tensor([o + w for o, step in zip(offsets, inputs, strict=True) for w in step.wanted]),
        )
        chosen = sample(logits_RV, [row for step in inputs for row in step.sampling])
        logprobs: list[float | None] = [None] * len(chosen)
        if any(request.request.logprobs for request in running):
            logprobs = list(token_logprobs(logits_RV, chosen))
        events, first = [], 0
        for request, step in zip(running, inputs, strict=True):
            here = slice(first, first + len(step.sampling))
            first = here.stop
            scores = logprobs[here] if request.request.logprobs else [None] * len(step.sampling)
            events.append((request, request.accept(chosen[here], scores)))
        return events

    def _new_cache(self, members: int) -> SiblingCache:
        decoder = self._decoder
        return SiblingCache(decoder.config, members, decoder.device, decoder.dtype)
