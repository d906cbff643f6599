"""What vLLM says of itself while it works."""

from __future__ import annotations

from typing import Any

from parathinker.engine.kv_pool import KVUsage
from parathinker.engine.protocol import EngineLoad


class Meter:
    """Keeps the last of vLLM's statistics, of each of its engines."""

    def __init__(self) -> None:
        self.kv_usage: dict[int, float] = {}
        """The share of blocks that are in use, by engine."""
        self.holdings: dict[int, dict[str, int]] = {}
        """What our connector says that it holds, by engine."""
        self.preemptions = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, engine: int) -> None:
        """Take note of a step."""
        if scheduler_stats is not None:
            self.kv_usage[engine] = float(scheduler_stats.kv_cache_usage)
            self.holdings[engine] = dict(scheduler_stats.kv_connector_stats or {})
        if iteration_stats is not None:
            self.preemptions += int(iteration_stats.num_preempted_reqs)

    def load(self, running: int, waiting: int, tokens: int, bytes_per_token: int) -> EngineLoad:
        """The same as the native engine says it; ``tokens`` is what the KV memory holds."""
        usage = sum(self.kv_usage.values()) / max(len(self.kv_usage), 1)
        in_use = round(usage * tokens)
        kv = KVUsage(
            capacity=tokens * bytes_per_token,
            in_use=in_use * bytes_per_token,
            kept=0,
            live_tokens=in_use,
            bytes_per_token=bytes_per_token,
        )
        return EngineLoad(running, waiting, self.preemptions, kv, None)


def stat_logger(meter: Meter) -> Any:
    """A maker of what vLLM calls a stat logger."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class ToMeter(StatLoggerBase):  # type: ignore[misc]  # vLLM ships no types for it
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._engine = engine_index

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            meter.record(scheduler_stats, iteration_stats, engine_idx)

        def log_engine_initialized(self) -> None:
            pass

    return ToMeter
