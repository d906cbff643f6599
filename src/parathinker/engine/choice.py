"""How the next token of a segment is to be chosen: its randomness, bans and penalties."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import numpy as np

from parathinker.engine.request import EngineRequest, Penalties
from parathinker.engine.sampler import LogitEdits, SamplingRow, path_generator
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
        self._prompts = frozenset(request.prompt).union(*(turn.prompt for turn in request.history))

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
            # Rounds after the first say so; the first is named as if there were no others.
            label = f"{segment.thought_id}" + (f"/{segment.round}" if segment.round > 1 else "")
            r = self._request
            said = [t for turn in r.history for t in (*turn.prompt, *turn.rounds[-1].summary)]
            self._random[key] = path_generator(r.seed, [*said, *r.prompt], label)
        return self._random[key]

    def _ban(self, segment: LiveSegment) -> LogitEdits:
        r, path = self._request, segment.kind is Kind.PATH
        limits, behind = (r.path, 1) if path else (r.summary, segment.forced)
        # The token to be chosen counts too. What ends a path early may be replaced instead.
        early = len(segment.token_ids) - behind + 1 < limits.min_tokens
        key = segment.thought_id, early
        if key not in self._bans:
            closing = self._closing(segment)
            banned: Iterable[int] = self._banned - closing
            if early:
                replaced = r.end_ids if r.plain else closing if path else frozenset()
                banned = {*banned, *closing, *r.end_ids} - (replaced if r.continuation else set())
            self._bans[key] = LogitEdits.ban(sorted(banned))
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
        penalties = self._request.penalties
        counts = Counter(segment.token_ids[segment.lent :])
        tokens = sorted((self._prompts | counts.keys()).difference(bans.tokens_N.tolist()))
        times = np.array([counts[token] for token in tokens], np.float32)
        return LogitEdits(
            np.concatenate([bans.tokens_N, np.array(tokens, np.int64)]),
            np.concatenate([bans.divide_N, np.full(len(tokens), penalties.repetition, np.float32)]),
            np.concatenate(
                [
                    bans.subtract_N,
                    penalties.frequency * times + penalties.presence * (times > 0),
                ]
            ).astype(np.float32),
        )
