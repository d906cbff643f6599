"""A segment of a request at work: its tokens, and where their keys and values lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from parathinker.engine.batch import BLOCK_TOKENS, Ints
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.request import EndEvent, Event, Likeliest, TokenEvent
from parathinker.graph import Kind


@dataclass
class LiveSegment:
    """Tokens known so far, of which the first ``computed`` have keys and values in the pool."""

    index: int
    """In the request's graph."""
    kind: Kind
    thought_id: int
    round: int
    """From 1; 0 for what came before this request's thinking."""
    start: int
    """Position of its first token."""
    token_ids: list[int]
    forced: int = 0
    """Tokens at the beginning that the model did not choose."""
    lent: int = 0
    """Tokens at the beginning that are the prompt's, and no news to anyone."""
    logprobs: list[float | None] = field(default_factory=list)
    likeliest: list[Likeliest] = field(default_factory=list)
    """At each token, what else was likely; empty where that was not asked for."""
    finish_reason: str | None = None
    ending: bool = False
    """Its last token ended it without being its closing token, which is forced next."""
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    _table: Ints = field(default_factory=lambda: np.empty(8, np.int64), repr=False)
    _announced: int = 0

    def __post_init__(self) -> None:
        self.logprobs = [None] * len(self.token_ids)
        self.likeliest = [()] * len(self.token_ids)
        self._announced = self.lent

    @property
    def pending(self) -> int:
        """Tokens that have no keys and values yet."""
        return len(self.token_ids) - self.computed

    @property
    def table(self) -> Ints:
        """Its blocks as an array; valid until the next :meth:`add_blocks`."""
        return self._table[: len(self.blocks)]

    def append(self, token: int, logprob: float | None, likeliest: Likeliest = ()) -> None:
        """One more token."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.likeliest.append(likeliest)

    def news(self) -> Iterator[Event]:
        """Events of what happened to it since this was last asked."""
        for at in range(self._announced, len(self.token_ids)):
            last = self.finish_reason is not None and at == len(self.token_ids) - 1
            yield TokenEvent(
                self.round,
                self.thought_id,
                self.token_ids[at],
                self.logprobs[at],
                self.likeliest[at],
                last,
            )
        self._announced = len(self.token_ids)
        if self.finish_reason is not None:
            yield EndEvent(self.round, self.thought_id, self.finish_reason)

    # -- memory ---------------------------------------------------------------------------------

    def blocks_for(self, tokens: int) -> int:
        """Blocks it lacks to compute so many more tokens."""
        return -(-(self.computed + tokens) // BLOCK_TOKENS) - len(self.blocks)

    def add_blocks(self, blocks: Sequence[int]) -> None:
        """Take over blocks for the tokens to come."""
        old, total = len(self.blocks), len(self.blocks) + len(blocks)
        if total > len(self._table):
            grown = np.empty(2 * total, np.int64)
            grown[:old] = self._table[:old]
            self._table = grown
        self._table[old:total] = blocks
        self.blocks.extend(blocks)

    def slots(self, tokens: int) -> list[int]:
        """Where its next tokens' keys and values go."""
        blocks = self.blocks
        return [
            blocks[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS
            for at in range(self.computed, self.computed + tokens)
        ]

    def drop(self, pool: KVPool, *, discard: bool = False, doubtful: bool = False) -> None:
        """Give all its memory back; it would have to be computed again."""
        pool.release(self.blocks, discard=discard, doubtful=doubtful)
        self.blocks.clear()
        self.computed = 0

    def find(self, pool: KVPool, base: bytes) -> None:
        """Take over blocks of the pool that already hold its beginning."""
        tokens = len(self.token_ids)
        for at, name in enumerate(block_names(base, self.token_ids)):
            block = pool.find(name)
            if block is None:
                break
            self.add_blocks([block])
            self.computed = min((at + 1) * BLOCK_TOKENS, tokens)

    def publish(self, pool: KVPool, base: bytes) -> None:
        """Let later requests find what of it is computed, the last block as far as it is full."""
        names = block_names(base, self.token_ids[: self.computed])
        for block, name in zip(self.blocks, names, strict=True):
            pool.publish(block, name)


def block_names(base: bytes, tokens: Sequence[int]) -> Iterator[bytes]:
    """A name for each block of a segment, the last one perhaps not full.

    Args:
        base: see :func:`base_name`.
    """
    name = base
    for at in range(0, len(tokens), BLOCK_TOKENS):
        name = content_name(name, tokens[at : at + BLOCK_TOKENS])
        yield name


def base_name(kind: Kind, thought_id: int, start: int, parents: Sequence[bytes]) -> bytes:
    """Digest of all that a segment follows from; ``parents`` are their content names.

    Where it starts does not follow from them: that is up to the graph's layout.
    """
    return _digest(f"{kind.value} {thought_id} {start}".encode(), *parents)


def content_name(base: bytes, tokens: Sequence[int]) -> bytes:
    """Digest of tokens and all they follow from."""
    return _digest(base, np.asarray(tokens, np.int64).tobytes())


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return digest.digest()
