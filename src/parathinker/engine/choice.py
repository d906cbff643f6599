"""How the next token of a segment is to be chosen: its randomness, bans and penalties."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import numpy as np

from parathinker.engine.request import EngineRequest, Penalties
from parathinker.engine.sampler import LogitEdits, SamplingRow, path_generator, path_seed
from parathinker.engine.segment import LiveSegment
from parathinker.graph import Kind
from parathinker.tokens import ControlTokens


class Choice:
    """Makes the sampling rows of one request.

    Args:
        banned: tokens that no segment may hold, but for its own closing token.
    """

    def __init__(
        self, request: EngineRequest, control: ControlTokens | None, banned: frozenset[int]
    ) -> None:
        self._request, self._control, self._banned = request, control, banned
        self._random: dict[tuple[int, int], random.Random] = {}
        self._bans: dict[tuple[int, bool], LogitEdits] = {}
        self._plain = request.penalties == Penalties()
        self.prompts = frozenset(request.prompt).union(*(turn.prompt for turn in request.history))

    def row(self, segment: LiveSegment) -> SamplingRow:
        """How to choose the segment's next token; draws its randomness."""
        r = self._request
        limits = r.path if segment.kind is Kind.PATH else r.summary
        uniform = self._generator(segment).random() if limits.temperature > 0 else 0.0
        edits = self._ban(segment)
        if not self._plain:
            edits = self._penalised(segment, edits)
        return SamplingRow(limits.temperature, r.top_k, r.top_p, r.min_p, uniform, edits)

    def _generator(self, segment: LiveSegment) -> random.Random:
        key = segment.round, segment.thought_id
        if key not in self._random:
            self._random[key] = path_generator(*self._seeding(segment))
        return self._random[key]

    def seed(self, segment: LiveSegment) -> str:
        """What the segment's generator is seeded with."""
        return path_seed(*self._seeding(segment))

    def _seeding(self, segment: LiveSegment) -> tuple[int, list[int], str]:
        # Rounds after the first say so; the first is named as if there were no others.
        label = f"{segment.thought_id}" + (f"/{segment.round}" if segment.round > 1 else "")
        r = self._request
        said = [t for turn in r.history for t in (*turn.prompt, *turn.rounds[-1].summary)]
        return r.seed, [*said, *r.prompt], label

    def early_tokens(self, segment: LiveSegment) -> int:
        """How many further tokens it must have before it may choose the one that ends it."""
        r, path = self._request, segment.kind is Kind.PATH
        limits, behind = (r.path, 1) if path else (r.summary, segment.forced)
        # The token to be chosen counts too.
        return max(0, limits.min_tokens - (len(segment.token_ids) - behind) - 1)

    def banned(self, segment: LiveSegment, early: bool) -> list[int]:
        """Tokens that may not be chosen for it; ``early``: it may not end yet."""
        r, closing = self._request, self._closing(segment)
        banned: Iterable[int] = self._banned - closing
        if early:
            # What ends a path early may be replaced instead.
            path = segment.kind is Kind.PATH
            replaced = r.end_ids if r.plain else closing if path else frozenset()
            banned = {*banned, *closing, *r.end_ids} - (replaced if r.continuation else set())
        return sorted(banned)

    def _ban(self, segment: LiveSegment) -> LogitEdits:
        early = self.early_tokens(segment) > 0
        key = segment.thought_id, early
        if key not in self._bans:
            self._bans[key] = LogitEdits.ban(self.banned(segment, early))
        return self._bans[key]

    def _closing(self, segment: LiveSegment) -> frozenset[int]:
        """The control token that the segment may hold; plain text has none."""
        if self._request.plain:
            return frozenset()
        assert self._control is not None
        if segment.kind is Kind.PATH:
            return frozenset((self._control.closes[segment.thought_id - 1],))
        return frozenset((self._control.summary_close,))

    def _penalised(self, segment: LiveSegment, bans: LogitEdits) -> LogitEdits:
        counts = Counter(segment.token_ids[segment.lent :])
        return penalised(bans, self._request.penalties, self.prompts, counts)


def penalised(
    bans: LogitEdits, penalties: Penalties, prompts: frozenset[int], counts: Counter[int]
) -> LogitEdits:
    """Bans with penalties beside them; ``counts``: how often the segment has each token."""
    tokens = sorted((prompts | counts.keys()).difference(bans.tokens_N.tolist()))
    times = np.array([counts[token] for token in tokens], np.float32)
    return LogitEdits(
        np.concatenate([bans.tokens_N, np.array(tokens, np.int64)]),
        np.concatenate([bans.divide_N, np.full(len(tokens), penalties.repetition, np.float32)]),
        np.concatenate(
            [bans.subtract_N, penalties.frequency * times + penalties.presence * (times > 0)]
        ).astype(np.float32),
    )
