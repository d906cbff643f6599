"""The scheduler's half of the KV connector: who keeps which blocks, and who shares them.

When a request of a group ends, its blocks are touched, so that they outlive it. A request whose
context is put together from such blocks gets their hashes in place of its own: vLLM's prefix lookup
then shares them by reference count. What no whole block holds is claimed as loaded from outside and
copied by the workers before the forward (``copies.py``).
"""

# Shapes: C tokens that are copied or loaded.

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parathinker.backends.vllm.layout import Ints, Piece, Splice, splice
from parathinker.backends.vllm.orders import LOST, Order

_NO_TOKENS: Ints = np.empty(0, np.int64)


@dataclass
class Stored:
    """Keys and values of a request that ended."""

    number: int
    tokens: int
    """How many tokens of its sequence have them."""
    block_ids: list[int]
    hashes: list[Any]
    """vLLM's names of its full blocks."""
    natural: bool
    """Whether these names follow from its tokens alone."""
    blocks: list[Any] | None
    """The blocks while they are held; None once they were moved to host memory."""


@dataclass
class Group:
    """All that belongs to one question."""

    born: int
    stored: dict[str, Stored] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    """vLLM's requests of it that are not over."""
    idle_since: float | None = None
    spilled: list[int] = field(default_factory=list)
    """Numbers of what lies in host memory."""


@dataclass
class Context:
    """A request's context out of stored pieces."""

    splice: Splice
    sources: list[Stored]
    """Of each piece."""


@dataclass
class StepOrders:
    """What the workers do beside the next forward, in this order."""

    spills: list[tuple[int, list[int]]] = field(default_factory=list)
    """Copy these blocks to host memory under a number."""
    copy_from_C: Ints = field(default_factory=lambda: _NO_TOKENS)
    copy_to_C: Ints = field(default_factory=lambda: _NO_TOKENS)
    """Token slots: block times block size plus the place in it."""
    loads: list[tuple[int, Ints, Ints]] = field(default_factory=list)
    """From host memory: its number, slots in the stored sequence, slots to fill."""
    drops: list[int] = field(default_factory=list)
    """Forget what lies in host memory under these numbers."""

    def __bool__(self) -> bool:
        return bool(self.spills or len(self.copy_to_C) or self.loads or self.drops)


class Sharing:
    """Keeps the groups; its methods are the connector's hooks.

    Args:
        block_tokens: tokens of a block.
        is_waiting, is_running: what vLLM's request status says.
        abandoned_s: a group that nobody asks anything of for so long is forgotten.
    """

    def __init__(
        self,
        block_tokens: int,
        is_waiting: Callable[[Any], bool],
        is_running: Callable[[Any], bool],
        abandoned_s: float,
    ) -> None:
        self.pool: Any = None
        """vLLM's block pool, once there is one."""
        self._block_tokens, self._abandoned_s = block_tokens, abandoned_s
        self._is_waiting, self._is_running = is_waiting, is_running
        self._groups: dict[str, Group] = {}
        self._requests: dict[str, Any] = {}
        self._contexts: dict[str, Context] = {}
        self._lost: set[str] = set()
        self._numbers = itertools.count()
        self._orders = StepOrders()
        self._free_next: list[list[Any]] = []

    # -- requests come and go -------------------------------------------------------------------

    def on_new_request(self, request: Any) -> None:
        """Note a request; point it at the blocks that it shares."""
        self._requests[request.request_id] = request
        order = Order.from_params(request.kv_transfer_params)
        if order is None:
            return
        if order.release:
            group = self._groups.pop(order.group, None)
            if group is not None:
                self._drop(group)
            return
        group = self._groups.get(order.group)
        if group is None:
            group = self._groups[order.group] = Group(next(self._numbers))
        group.live.add(request.request_id)
        group.idle_since = None
        pieces = self._pieces(group, order, request.num_tokens - 1)
        if not pieces:
            return
        sources = [group.stored.get(piece.source) for piece in pieces]
        if any(s is None or s.tokens < p.end for s, p in zip(sources, pieces, strict=True)):
            # Computed anew it would see what it must not: nobody may take its token for an answer.
            self._lost.add(request.request_id)
            request.max_tokens = 1
            return
        found = [source for source in sources if source is not None]
        context = Context(splice(pieces, self._block_tokens), found)
        self._contexts[request.request_id] = context
        if not (len(found) == 1 and found[0].natural):
            self._rename(request, context)

    def _pieces(self, group: Group, order: Order, most: int) -> tuple[Piece, ...]:
        given = sum(piece.end - piece.start for piece in order.pieces)
        if order.extends is not None:
            key, same = order.extends
            stored = group.stored.get(key)
            length = min(stored.tokens, same, most) if stored is not None else 0
            if length > given:
                return (Piece(key, 0, length),)
        return order.pieces

    def _rename(self, request: Any, context: Context) -> None:
        """Give a request its sources' block names, and names of nobody else's behind them.

        Its mixed blocks hold other tokens than its own sequence says.
        """
        salt, size = b"parathinker " + request.request_id.encode(), self._block_tokens

        def names(request: Any) -> list[bytes]:
            known = len(request.block_hashes)
            return [
                hashlib.sha256(salt + block.to_bytes(8, "little")).digest()
                for block in range(known, request.num_tokens // size)
            ]

        sources = context.sources
        request.block_hashes = [sources[i].hashes[b] for i, b in context.splice.shared]
        request._block_hasher = names
        request.update_block_hashes()

    def request_finished(self, request: Any, block_ids: list[int]) -> dict[str, Any] | None:
        """Store what the group may need of a request that ended; what to answer its asker."""
        self._requests.pop(request.request_id, None)
        order = Order.from_params(request.kv_transfer_params)
        if order is None or order.release:
            return None
        context = self._contexts.pop(request.request_id, None)
        lost = request.request_id in self._lost
        self._lost.discard(request.request_id)
        group = self._groups.get(order.group)
        if group is None:  # released before
            return LOST if lost else None
        group.live.discard(request.request_id)
        if order.last:
            self._drop(self._groups.pop(order.group))
            return LOST if lost else None
        if not group.live:
            group.idle_since = time.monotonic()
        # The last token has not been through the model.
        tokens = min(request.num_computed_tokens, request.num_tokens - 1)
        if lost:
            return LOST
        if order.keep is not None and tokens > 0:
            self._store(group, order.keep, request, block_ids, tokens, context)
        return None

    def _store(
        self,
        group: Group,
        key: str,
        request: Any,
        block_ids: list[int],
        tokens: int,
        context: Context | None,
    ) -> None:
        held = block_ids[: -(-tokens // self._block_tokens)]
        blocks = [self.pool.blocks[block] for block in held]
        self.pool.touch(blocks)
        natural = context is None or (len(context.sources) == 1 and context.sources[0].natural)
        before = group.stored.get(key)
        group.stored[key] = Stored(
            next(self._numbers), tokens, held, list(request.block_hashes), natural, blocks
        )
        if before is not None:
            self._let_go(before)

    def held(self) -> dict[str, int]:
        """What is kept at the moment."""
        return {
            "groups": len(self._groups),
            "requests": len(self._requests),
            "contexts": len(self._contexts),
            "lost": len(self._lost),
        }

    # -- a step is scheduled --------------------------------------------------------------------

    def external_tokens(self, request: Any, computed: int) -> int:
        """How many tokens of its context a request gets beyond the blocks that were found."""
        context = self._contexts.get(request.request_id)
        return 0 if context is None else max(0, context.splice.tokens - computed)

    def allocated(self, request: Any, block_ids: list[int], external: int) -> None:
        """A request has blocks: order what has to be copied into them."""
        context = self._contexts.get(request.request_id)
        if context is None or not external:
            return
        plan, size = context.splice, self._block_tokens
        into_C = np.arange(plan.tokens - external, plan.tokens)
        blocks = np.asarray(block_ids, np.int64)
        to_C = blocks[into_C // size] * size + into_C % size
        piece_C, slot_C = plan.piece_C[into_C], plan.slot_C[into_C]
        for i in np.unique(piece_C).tolist():
            stored, mine = context.sources[i], piece_C == i
            slots, targets = slot_C[mine], to_C[mine]
            if stored.blocks is None:
                self._orders.loads.append((stored.number, slots, targets))
                continue
            held = np.asarray(stored.block_ids, np.int64)
            orders = self._orders
            orders.copy_from_C = np.concatenate(
                [orders.copy_from_C, held[slots // size] * size + slots % size]
            )
            orders.copy_to_C = np.concatenate([orders.copy_to_C, targets])

    def step(self, scheduled_tokens: int) -> StepOrders:
        """A step was scheduled: what the workers have to do with it."""
        freed, self._free_next = self._free_next, []
        for blocks in freed:  # their copies to host memory ran a step ago
            self.pool.free_blocks(reversed(blocks))
        now = time.monotonic()
        for name, group in list(self._groups.items()):
            if group.idle_since is not None and now - group.idle_since > self._abandoned_s:
                self._drop(self._groups.pop(name))
        if not scheduled_tokens and not freed:  # what was freed just now may be enough
            self._relieve()
        orders, self._orders = self._orders, StepOrders()
        return orders

    def _relieve(self) -> None:
        """If memory is full and everybody waits, move one group's to the host.

        Groups that nobody waits for go first, then the youngest, so the oldest gets on.
        """
        requests = self._requests.values()
        if any(map(self._is_running, requests)) or not any(map(self._is_waiting, requests)):
            return
        holding = [
            group
            for group in self._groups.values()
            if any(stored.blocks is not None for stored in group.stored.values())
        ]
        if not holding:
            return
        group = max(holding, key=lambda one: (not one.live, one.born))
        for stored in group.stored.values():
            if stored.blocks is not None:
                self._orders.spills.append((stored.number, stored.block_ids))
                self._free_next.append(stored.blocks)
                stored.blocks = None
                group.spilled.append(stored.number)

    # -- memory comes back ----------------------------------------------------------------------

    def reset(self) -> None:
        """Forget groups that nobody is at work on."""
        for name, group in list(self._groups.items()):
            if not group.live:
                self._drop(self._groups.pop(name))

    def _drop(self, group: Group) -> None:
        for stored in group.stored.values():
            self._let_go(stored)
        self._orders.drops += group.spilled
        group.stored.clear()

    def _let_go(self, stored: Stored) -> None:
        if stored.blocks is not None:
            self.pool.free_blocks(reversed(stored.blocks))
            stored.blocks = None
