"""What is counted, for Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from parathinker.answer import Done, PathEnd, PathToken, StreamEvent, SummaryToken

if TYPE_CHECKING:
    from parathinker import EngineLoad

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SHORT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_LONG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
_KINDS = ("prompt", "cached", "path", "summary")
_REASONS = ("stop", "length", "cut", "abandoned")


class Metrics:
    """All of a server's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.requests = Counter(
            "parathinker_requests", "HTTP requests.", ["route", "status"], registry=r
        )
        self.duration = Histogram(
            "parathinker_request_duration_seconds",
            "From a request to the end of its response.",
            ["route"],
            buckets=_LONG,
            registry=r,
        )
        self.waited = Histogram(
            "parathinker_queue_seconds", "Wait for a turn.", buckets=_LONG, registry=r
        )
        self.first_token = Histogram(
            "parathinker_time_to_first_token_seconds",
            "From a request to the first token of any path.",
            buckets=_LONG,
            registry=r,
        )
        self.first_answer_token = Histogram(
            "parathinker_time_to_first_answer_token_seconds",
            "From a request to the first token of a summary.",
            buckets=_LONG,
            registry=r,
        )
        self.between_tokens = Histogram(
            "parathinker_inter_token_seconds",
            "Between two tokens of one path, or of a summary; of paths side by side, one is timed.",
            buckets=_SHORT,
            registry=r,
        )
        tokens = Counter("parathinker_tokens", "Tokens by kind.", ["kind"], registry=r)
        self.tokens = {kind: tokens.labels(kind) for kind in _KINDS}
        self.paths_started = Counter("parathinker_paths_started", "Paths begun.", registry=r)
        ended = Counter(
            "parathinker_paths_ended", "Paths by how they ended.", ["reason"], registry=r
        )
        self.paths_ended = {reason: ended.labels(reason) for reason in _REASONS}
        self.cancelled = Counter(
            "parathinker_requests_cancelled", "Requests whose client left.", registry=r
        )
        self.timed_out = Counter(
            "parathinker_requests_timed_out", "Requests that took too long.", registry=r
        )
        self.running = Gauge("parathinker_answers_running", "Answers in the making.", registry=r)
        self.queued = Gauge("parathinker_requests_queued", "Requests that wait.", registry=r)
        self.ready = Gauge("parathinker_ready", "1 while requests are taken.", registry=r)
        engine = Gauge(
            "parathinker_engine_requests", "Of the engine, by state.", ["state"], registry=r
        )
        self._engine = {state: engine.labels(state) for state in ("running", "waiting")}
        self._preemptions = Gauge(
            "parathinker_engine_preemptions", "Requests sent back for memory, so far.", registry=r
        )
        kv = Gauge("parathinker_kv_bytes", "KV memory, by use.", ["use"], registry=r)
        self._kv = {use: kv.labels(use) for use in ("capacity", "in_use", "kept")}
        self._kv_tokens = Gauge(
            "parathinker_kv_live_tokens", "Tokens of running requests in memory.", registry=r
        )

    def meter(self, started: float | None = None) -> Meter:
        """Counts for one request that began at ``started`` (of ``time.perf_counter``)."""
        return Meter(self, time.perf_counter() if started is None else started)

    def see(self, load: EngineLoad) -> None:
        """Note the engine's state."""
        self._engine["running"].set(load.running)
        self._engine["waiting"].set(load.waiting)
        self._preemptions.set(load.preemptions)
        for use, gauge in self._kv.items():
            gauge.set(getattr(load.kv, use))
        self._kv_tokens.set(load.kv.live_tokens)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


class Meter:
    """Counts for one request."""

    def __init__(self, metrics: Metrics, started: float) -> None:
        self.metrics, self.started = metrics, started
        self.first_token_s: float | None = None
        self.first_answer_token_s: float | None = None

    def choice(self) -> ChoiceMeter:
        """Counts for one of its answers."""
        return ChoiceMeter(self)

    def token(self, now: float) -> None:
        """A token came."""
        if self.first_token_s is None:
            self.first_token_s = now - self.started
            self.metrics.first_token.observe(self.first_token_s)

    def answer_token(self, now: float) -> None:
        """A summary's token came."""
        if self.first_answer_token_s is None:
            self.first_answer_token_s = now - self.started
            self.metrics.first_answer_token.observe(self.first_answer_token_s)


class ChoiceMeter:
    """Counts for one answer, event by event."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._metrics = meter, meter.metrics
        self._growing: set[int] = set()
        self._timed: int | None = None
        """Which path's tokens are timed; 0 is the summary."""
        self._last: float | None = None
        """When its last token came; None while it has one: its opening came with the next."""

    def event(self, event: StreamEvent) -> None:
        """Count an event."""
        if isinstance(event, PathToken):
            if event.thought_id not in self._growing:
                self._growing.add(event.thought_id)
                self._metrics.paths_started.inc()
            self._metrics.tokens["path"].inc()
            self._time(event.thought_id)
        elif isinstance(event, SummaryToken):
            self._metrics.tokens["summary"].inc()
            self._time(0)
        elif isinstance(event, PathEnd):
            self._growing.discard(event.thought_id)
            self._metrics.paths_ended[event.finish_reason].inc()
            if self._timed == event.thought_id:
                self._timed = None
        else:
            self._done(event)

    def abandoned(self) -> None:
        """No more will come, and the answer is not done."""
        self._metrics.paths_ended["abandoned"].inc(len(self._growing))

    def _time(self, path: int) -> None:
        if self._timed not in (None, path):
            if path:
                return  # beside the one that is timed
            self._timed = None
        now = time.perf_counter()
        self._meter.token(now)
        if path == 0:
            self._meter.answer_token(now)
        if self._timed != path:
            self._timed, self._last = path, None
            return
        if self._last is not None:
            self._metrics.between_tokens.observe(now - self._last)
        self._last = now

    def _done(self, done: Done) -> None:
        usage = done.answer.usage
        self._metrics.tokens["prompt"].inc(usage.prompt_tokens)
        self._metrics.tokens["cached"].inc(usage.cached_tokens)
