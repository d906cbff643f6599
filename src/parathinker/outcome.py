"""From the engine's tokens to what users see: events with text as they happen, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parathinker.answer import (
    Answer,
    Done,
    Path,
    PathEnd,
    PathToken,
    Round,
    StreamEvent,
    Summary,
    SummaryToken,
    Timings,
    Usage,
)
from parathinker.engine.request import EndEvent, Event
from parathinker.engine.running import RunningRequest
from parathinker.engine.segment import LiveSegment
from parathinker.prepare import Prepared
from parathinker.prompt import PromptCodec, TextStream


class Narrator:
    """Tells one request's story."""

    def __init__(self, prepared: Prepared, codec: PromptCodec) -> None:
        self._prepared, self._codec = prepared, codec
        self._streams: dict[tuple[int, int], TextStream] = {}

    def tell(self, events: Sequence[Event]) -> Iterator[StreamEvent]:
        """What one step did, for users."""
        for event in events:
            if isinstance(event, EndEvent):
                if event.thought_id:
                    yield PathEnd(event.thought_id, event.finish_reason, event.round)
                continue
            key = event.round, event.thought_id
            if key not in self._streams:
                self._streams[key] = self._codec.stream()
            text = self._streams[key].push(event.token_id, event.last)
            logprob = event.logprob if self._prepared.params.logprobs else None
            if event.thought_id:
                yield PathToken(
                    event.thought_id,
                    event.token_id,
                    text,
                    logprob,
                    event.round,
                    event.top_logprobs,
                )
            else:
                yield SummaryToken(event.token_id, text, logprob, event.round, event.top_logprobs)

    def close(self, running: RunningRequest) -> Done:
        """The last event."""
        return Done(self.answer(running))

    def answer(self, running: RunningRequest) -> Answer:
        """A finished request's answer."""
        rounds = []
        for one in running.rounds:
            assert one.summary is not None
            paths = [self._path(segment) for segment in one.paths]
            rounds.append(Round(paths, self._summary(one.summary)))
        prompt = list(running.request.prompt)
        path_tokens = sum(len(path.token_ids) for one in rounds for path in one.paths)
        summary_tokens = sum(len(one.summary.token_ids) for one in rounds)
        marks = running.marks
        return Answer(
            text=rounds[-1].summary.text.strip(),
            paths=rounds[-1].paths,
            summary=rounds[-1].summary,
            rounds=rounds,
            prompt_token_ids=prompt,
            usage=Usage(
                prompt_tokens=len(prompt),
                path_tokens=path_tokens,
                summary_tokens=summary_tokens,
                cached_tokens=running.cached_tokens,
                total_tokens=len(prompt) + path_tokens + summary_tokens,
            ),
            timings=Timings(
                prefill_s=marks["prefilled"] - running.started,
                think_s=marks["thought"] - marks["prefilled"],
                summary_ttft_s=marks["summary_token"] - marks["thought"],
                summary_s=marks["done"] - marks["thought"],
                total_s=marks["done"] - running.started,
            ),
            params=self._prepared.params,
            after=self._prepared.after,
        )

    def _path(self, segment: LiveSegment) -> Path:
        return Path(
            segment.thought_id,
            self._codec.decode(segment.token_ids),
            segment.token_ids,
            self._logprobs(segment),
            segment.finish_reason or "",
            self._likeliest(segment),
        )

    def _summary(self, segment: LiveSegment) -> Summary:
        return Summary(
            self._codec.decode(segment.token_ids[segment.lent :]),
            segment.token_ids[segment.lent :],
            self._logprobs(segment),
            segment.finish_reason or "",
            self._likeliest(segment),
        )

    def _logprobs(self, segment: LiveSegment) -> list[float | None]:
        found = segment.logprobs[segment.lent :]
        return found if self._prepared.params.logprobs else [None] * len(found)

    def _likeliest(self, segment: LiveSegment) -> list[list[tuple[int, float]]]:
        if not self._prepared.params.top_logprobs:
            return []
        return [list(likeliest) for likeliest in segment.likeliest[segment.lent :]]
