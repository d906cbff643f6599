"""One vLLM request as a stream of chosen tokens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parathinker.backends.vllm.orders import Order, is_lost
from parathinker.backends.vllm.sampling_params import RowParams
from parathinker.engine.sampler import Sampled
from parathinker.errors import EngineError


@dataclass(frozen=True)
class Ask:
    """What one vLLM request is to do."""

    name: str
    """Unique in the engine."""
    tokens: Sequence[int]
    max_tokens: int
    order: Order | None = None
    """None for plain requests, whose keys and values are nobody else's."""
    row: RowParams | None = None
    """None where the token it chooses is not wanted."""
    stop: frozenset[int] = frozenset()
    top_logprobs: int = 0
    rank: int | None = None
    """Which of several data-parallel engines it goes to."""
    priority: int = 0
    """The least goes first."""


class Stream:
    """Asks, and hands tokens out one by one; more may have come than were taken."""

    def __init__(self, llm: Any, ask: Ask) -> None:
        self._llm, self._ask = llm, ask
        self._tokens: asyncio.Queue[Sampled | Exception | None] = asyncio.Queue()
        self._taken, self._last = 0, -1
        self._entered = asyncio.Event()
        self._ended = False
        """Whether vLLM is done with it, or was told to be."""
        self.cached_tokens = 0
        """Tokens whose keys and values were found in memory; known with the first token."""
        self._task = asyncio.ensure_future(self._pump())

    async def next(self) -> Sampled | None:
        """The next token; None when there are no more.

        Raises:
            EngineError: vLLM failed.
        """
        item = await self._tokens.get()
        if isinstance(item, Exception):
            raise item
        if item is not None:
            self._taken, self._last = self._taken + 1, item.token
        return item

    @property
    def exhausted(self) -> bool:
        """Whether all of its tokens were taken."""
        return self._taken == self._ask.max_tokens or self._last in self._ask.stop

    async def _pump(self) -> None:
        from vllm.inputs import TokensPrompt

        ask = self._ask
        try:
            outputs = await self._llm.add_request(
                ask.name,
                TokensPrompt(prompt_token_ids=list(ask.tokens)),
                _sampling_params(ask),
                data_parallel_rank=ask.rank,
                priority=ask.priority,
            )
            self._entered.set()
            while not self._ended:
                output = outputs.get_nowait() or await outputs.get()
                if output.finished:
                    self._ended = True
                    if is_lost(output.kv_transfer_params):
                        raise EngineError(
                            "vLLM gave up keys and values of a question that was under way: "
                            "nothing was asked of it for too long"
                        )
                self.cached_tokens = self.cached_tokens or output.num_cached_tokens or 0
                said = output.outputs[0]
                for token, logprobs in zip(said.token_ids, said.logprobs or (), strict=True):
                    self._tokens.put_nowait(_sampled(token, logprobs, ask.top_logprobs))
            self._tokens.put_nowait(None)
        except EngineError as error:
            self._tokens.put_nowait(error)
        except Exception as error:
            self._ended = True
            typed = EngineError(f"vLLM failed: {type(error).__name__}: {error}")
            typed.__cause__ = error
            self._tokens.put_nowait(typed)
        finally:
            self._entered.set()


async def stop_streams(streams: Sequence[Stream]) -> None:
    """End streams; vLLM has been told when this returns. It may be called again."""
    # Who leaves while a request is being handed over would leave it behind.
    await asyncio.gather(*(stream._entered.wait() for stream in streams))
    going = [stream for stream in streams if not stream._ended]
    if going:
        await going[0]._llm.abort([stream._ask.name for stream in going])
    for stream in going:
        stream._ended = True  # not before: who is cancelled in between stops it again
    for stream in streams:
        stream._task.cancel()
    await asyncio.gather(*(stream._task for stream in streams), return_exceptions=True)


async def release(llm: Any, name: str, group: str, rank: int | None) -> None:
    """Have a group forgotten.

    vLLM takes the request for one that ended before it was let in: it waits for no seat and no
    memory, and there is no answer.
    """
    if not llm.errored:
        params = Order(group, release=True).to_params()
        await llm.notify_kv_transfer_request_rejected(name, params, data_parallel_rank=rank)


def _sampling_params(ask: Ask) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    extra: dict[str, Any] = {}
    if ask.order is not None:
        extra["kv_transfer_params"] = ask.order.to_params()
    if ask.row is not None:
        extra |= ask.row.to_args()
    return SamplingParams(
        temperature=0.0,  # our own sampler leaves one token
        max_tokens=ask.max_tokens,
        stop_token_ids=sorted(ask.stop),
        ignore_eos=True,
        logprobs=ask.top_logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args=extra,
    )


def _sampled(token: int, logprobs: Any, count: int) -> Sampled:
    chosen = float(logprobs[token].logprob)
    likeliest: tuple[tuple[int, float], ...] = ()
    if count:
        ranked = sorted(
            ((int(t), float(one.logprob)) for t, one in logprobs.items()),
            key=lambda one: (-one[1], one[0]),
        )
        likeliest = tuple(ranked[:count])
    return Sampled(int(token), chosen, math.isfinite(chosen), likeliest)
