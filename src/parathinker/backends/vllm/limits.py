"""What vLLM can hold, and what a request needs of it."""

from __future__ import annotations

from dataclasses import dataclass

from parathinker.engine.request import EngineRequest
from parathinker.errors import CapacityError, UsageError
from parathinker.graph import Layout


@dataclass(frozen=True)
class Limits:
    """Known once vLLM has started."""

    context: int
    """Tokens of one sequence: of prompt, paths and summary together."""
    blocks: int
    block_tokens: int
    bytes_per_token: int
    ranks: int
    """Data-parallel engines; a question stays on one."""
    seats: int
    """Sequences that one of them writes at a time."""

    def check(self, request: EngineRequest) -> None:
        """As :meth:`ThinkingEngine.check`."""
        if request.history:
            raise UsageError(
                "after is not supported by the vLLM backend; ask with the conversation's messages, "
                "or use the native engine"
            )
        if request.layout is not Layout.PARALLEL:
            raise UsageError(
                f"layout {request.layout.value!r} is not supported by the vLLM backend; it has "
                "'parallel' only"
            )
        paths = _at_a_time(request)
        if paths > self.seats and request.given_paths is None:
            raise CapacityError(
                f"this request thinks along {paths} paths at once, and vLLM writes "
                f"{self.seats} sequences at a time; ask for fewer paths, or start it with a larger "
                "max_num_seqs"
            )
        tokens = tokens_needed(request)
        # One block of vLLM's is never given out.
        room = min(self.context, (self.blocks // self.ranks - 1) * self.block_tokens)
        if tokens > room:
            raise CapacityError(
                f"this request may need {tokens} tokens ({len(request.thought_ids) or 1} paths of "
                f"up to {request.path.max_tokens}, a prompt of {len(request.prompt)}), and vLLM "
                f"holds {room} of one question; ask for fewer paths or a smaller max_path_tokens, "
                "or give it more with max_model_len and gpu_memory_utilization"
            )

    def seats_for(self, request: EngineRequest) -> int:
        """Sequences that it has at a time."""
        # Paths that are given are only read, and may be so one after another.
        return min(_at_a_time(request), self.seats)


def _at_a_time(request: EngineRequest) -> int:
    paths = len(request.thought_ids) or 1
    return min(request.auto.wave, paths) if request.auto else paths


def tokens_needed(request: EngineRequest) -> int:
    """Tokens that the last summary reads at most, its own included."""
    paths = len(request.thought_ids)
    in_paths = paths * (1 + request.path.max_tokens)
    if request.given_paths is not None:
        in_paths = sum(len(path) + 2 for path in request.given_paths)
    if request.budget is not None:
        in_paths = min(in_paths, request.budget + paths)
    summary = 1 + len(request.summary_prefix) + request.summary.max_tokens
    return len(request.prompt) + request.rounds * (in_paths + summary)
