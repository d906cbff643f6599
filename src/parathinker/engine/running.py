"""One request on its way through the engine: which segments grow, when each of them ends.

A step computes every pending token of all segments that the growing ones need, then a token is
chosen for each growing one. Prefill, forced text, decoding, paths that were given, and computing
anew what memory had lost are all the same: tokens that are known but have no keys and values yet.
Whatever ends a path, its last token is its ``</think i>``, which is computed together with the
summary's forced beginning, in one forward.

Plain text is a summary of no paths, and the prompt's last token is what it is forced to begin with:
so there is always a token whose logits say how a segment goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parathinker.engine.choice import Choice
from parathinker.engine.request import (
    CUT,
    LENGTH,
    STOP,
    EngineRequest,
    Event,
    PastTurn,
)
from parathinker.engine.sampler import Sampled, SamplingRow
from parathinker.engine.segment import LiveSegment
from parathinker.errors import NumericalError
from parathinker.graph import Kind, Layout, ThoughtGraph
from parathinker.tokens import ControlTokens


@dataclass
class Round:
    """Paths, and the summary once it was begun."""

    paths: list[LiveSegment] = field(default_factory=list)
    summary: LiveSegment | None = None


class RunningRequest:
    """The course of a request; :meth:`accept` takes it one token further."""

    def __init__(
        self, request: EngineRequest, control: ControlTokens | None, banned: frozenset[int]
    ) -> None:
        self.request = request
        self.graph = ThoughtGraph(flat_positions=request.layout is Layout.FLAT_POSITIONS)
        self.segments: list[LiveSegment] = []
        self.growing: tuple[LiveSegment, ...] = ()
        """Segments that get a token in each step, in the order of their rows."""
        self.rounds: list[Round] = []
        self.done = False
        self.started = time.perf_counter()
        self.marks: dict[str, float] = {}
        self.cached_tokens = 0
        """Tokens of history and prompt that were found in memory."""
        self._control = control
        self._choice = Choice(request, control, banned)
        parents: tuple[int, ...] = ()
        for turn in request.history:
            parents = self._add_past(turn, parents)
        read = request.prompt[:-1] if request.plain else request.prompt
        self.prompt = self._add(Kind.PROMPT, 0, read, parents)
        self._open_round()

    # -- the graph grows ------------------------------------------------------------------------

    def _add(
        self,
        kind: Kind,
        thought_id: int,
        tokens: Sequence[int],
        parents: Sequence[int],
        lent: int = 0,
    ) -> LiveSegment:
        index = self.graph.add(kind, len(tokens), parents, thought_id)
        start = self.graph.start(index)
        segment = LiveSegment(
            index, kind, thought_id, len(self.rounds), start, list(tokens), len(tokens), lent
        )
        self.segments.append(segment)
        return segment

    def _add_past(self, turn: PastTurn, parents: tuple[int, ...]) -> tuple[int, ...]:
        head = self._add(Kind.PROMPT, 0, turn.prompt, parents)
        for past in turn.rounds:
            paths = [self._add(Kind.PATH, i, tokens, (head.index,)) for i, tokens in past.paths]
            head = self._add(Kind.SUMMARY, 0, past.summary, [head.index, *(p.index for p in paths)])
        return (head.index,)

    def _open_round(self) -> None:
        r = self.request
        self.rounds.append(Round())
        if r.plain:
            self._open_summary()
            return
        if r.given_paths is None:
            self._open_paths(r.auto.wave if r.auto else len(r.thought_ids))
            return
        parent = self._round_parent()
        for thought_id, body in zip(r.thought_ids, r.given_paths, strict=True):
            tokens = [self._opening(thought_id), *body, self._closing(thought_id)]
            path = self._add(Kind.PATH, thought_id, tokens, [parent.index])
            path.finish_reason = STOP
            self.rounds[-1].paths.append(path)
            if r.layout is Layout.CHAIN:
                parent = path
        self._open_summary()

    def _open_paths(self, count: int) -> None:
        """The next ``count`` paths of this round."""
        r, now = self.request, self.rounds[-1]
        for thought_id in r.thought_ids[len(now.paths) :][:count]:
            prefix = r.path_prefixes[len(now.paths)] if r.path_prefixes else ()
            tokens = [self._opening(thought_id), *prefix]
            path = self._add(Kind.PATH, thought_id, tokens, [self._round_parent().index])
            now.paths.append(path)
            self.growing = (*self.growing, path)

    def _open_summary(self) -> None:
        r, now = self.request, self.rounds[-1]
        parents = [self._round_parent().index, *(path.index for path in now.paths)]
        if r.plain:
            now.summary = self._add(Kind.SUMMARY, 0, r.prompt[-1:], parents, lent=1)
        else:
            assert self._control is not None
            forced = [self._control.summary_open, *r.summary_prefix]
            now.summary = self._add(Kind.SUMMARY, 0, forced, parents)
        self.growing = (now.summary,)

    def _round_parent(self) -> LiveSegment:
        """What this round's paths hang under: the prompt, or the summary of the round before."""
        if len(self.rounds) == 1:
            return self.prompt
        before = self.rounds[-2].summary
        assert before is not None
        return before

    # -- tokens come in -------------------------------------------------------------------------

    def sampling(self) -> list[SamplingRow]:
        """How to choose a token for each growing segment; draws their randomness."""
        return [self._choice.row(segment) for segment in self.growing]

    def check_sound(self, chosen: Sequence[Sampled]) -> None:
        """Make sure that the tokens for the growing segments mean something.

        Raises:
            NumericalError: one comes of logits that are not finite.
        """
        for segment, one in zip(self.growing, chosen, strict=True):
            if not one.sound:
                text = "the text" if self.request.plain else "the summary"
                where = f"path {segment.thought_id}" if segment.thought_id else text
                raise NumericalError(
                    f"the model's logits are not finite at token {len(segment.token_ids)} of "
                    f"{where}: its weights are damaged, or its numbers outgrow this dtype"
                )

    def accept(self, chosen: Sequence[Sampled]) -> list[Event]:
        """Take a token for each growing segment, and move on.

        Returns:
            Events of all tokens that joined a segment, those that were forced at its beginning
            first; a segment's ``EndEvent`` comes right behind its last token.
        """
        taking = self.growing
        if taking[0].kind is Kind.PATH:
            self.marks.setdefault("prefilled", time.perf_counter())
            self._accept_paths(chosen)
        else:
            self._accept_summary(taking[0], chosen[0])
        return list(self._news(taking))

    def _news(self, segments: Sequence[LiveSegment]) -> Iterator[Event]:
        for segment in segments:
            yield from segment.news()

    def _accept_paths(self, chosen: Sequence[Sampled]) -> None:
        r = self.request
        fresh = [self._taken(p, s) for p, s in zip(self.growing, chosen, strict=True)]
        onward = sum(path.finish_reason is None for path in self.growing)
        written = sum(len(path.token_ids) - 1 for path in self.rounds[-1].paths)
        written += sum(len(tokens) for tokens in fresh)
        # Each path that would go on needs room for its closing token.
        spent = r.budget is not None and written + onward > r.budget
        enough = self._finished() >= r.paths_to_finish
        for path, tokens, one in zip(self.growing, fresh, chosen, strict=True):
            if path.finish_reason is None and (enough or spent):
                # It ends here too: this step's token gives way to its closing token.
                path.finish_reason = CUT if enough else LENGTH
                tokens = [(self._closing(path.thought_id), None)]
            for token, logprob in tokens:
                path.append(token, logprob, () if logprob is None else one.likeliest)
            if path.finish_reason is None:
                path.ending = self._ends(path)
            else:
                self._settle(path)
        if any(path.finish_reason is not None for path in self.growing):
            self.growing = tuple(path for path in self.growing if path.finish_reason is None)
        if not self.growing:
            self._after_thinking(spent)

    def _taken(self, path: LiveSegment, chosen: Sampled) -> list[tuple[int, float | None]]:
        """What a path's chosen token makes it write; sets its finish reason if that ends it."""
        closing, limit = self._closing(path.thought_id), self.request.path
        room = limit.max_tokens - (len(path.token_ids) - 1)
        if path.ending or chosen.token == closing:
            early = len(path.token_ids) < limit.min_tokens and not path.ending
            if early and room > 1 and self.request.continuation:
                return [(token, None) for token in self.request.continuation[: room - 1]]
            path.finish_reason = STOP
            return [(closing, None if path.ending else chosen.logprob)]
        if room == 1:
            path.finish_reason = LENGTH
            return [(closing, None)]
        return [(chosen.token, chosen.logprob)]

    def _finished(self) -> int:
        return sum(path.finish_reason is not None for path in self.rounds[-1].paths)

    def _after_thinking(self, spent: bool) -> None:
        """All paths are complete: on to the summary, or to more paths if they disagree."""
        paths, auto = self.rounds[-1].paths, self.request.auto
        if auto is not None and len(paths) < len(self.request.thought_ids) and not spent:
            bodies = [path.token_ids for path in paths]
            room = self.request.budget
            if room is not None:
                room -= sum(len(body) - 1 for body in bodies)
            more = self.request.thought_ids[len(paths) :][: auto.wave]
            prefixes = self.request.path_prefixes[len(paths) :][: auto.wave]
            least = len(more) + sum(map(len, prefixes))
            if not auto.agree(bodies) and (room is None or room >= least):
                self._open_paths(auto.wave)
                return
        self.marks["thought"] = time.perf_counter()
        self._open_summary()

    def _accept_summary(self, summary: LiveSegment, chosen: Sampled) -> None:
        if len(summary.token_ids) == summary.forced:
            now = time.perf_counter()
            # With given paths, prefill and thinking were this one forward.
            self.marks = {"prefilled": now, "thought": now, **self.marks, "summary_token": now}
        r, limit = self.request, self.request.summary
        written = len(summary.token_ids) - summary.forced
        if r.plain and r.continuation and self._too_early(chosen.token, written):
            for token in r.continuation[: limit.max_tokens - written]:
                summary.append(token, None)
        else:
            summary.append(chosen.token, chosen.logprob, chosen.likeliest)
            closed = self._control is not None and chosen.token == self._control.summary_close
            summary.finish_reason = STOP if closed or self._ends(summary) else None
        if summary.finish_reason is None:
            if len(summary.token_ids) - summary.forced < limit.max_tokens:
                return
            summary.finish_reason = LENGTH
        self._settle(summary)
        self.marks["done"] = time.perf_counter()
        self.growing = ()
        if len(self.rounds) < self.request.rounds:
            self._open_round()
        else:
            self.done = True

    # -- pieces ---------------------------------------------------------------------------------

    def _settle(self, segment: LiveSegment) -> None:
        """Tell the graph how long a segment came out, before others hang under it."""
        known = self.graph.segments[segment.index].length
        self.graph.extend(segment.index, len(segment.token_ids) - known)

    def _too_early(self, token: int, written: int) -> bool:
        """Whether plain text would end with this token before it may."""
        return token in self.request.end_ids and written + 1 < self.request.summary.min_tokens

    def _ends(self, segment: LiveSegment) -> bool:
        """Whether what the model wrote asks for the segment's end."""
        limit = self.request.path if segment.kind is Kind.PATH else self.request.summary
        behind = 1 if segment.kind is Kind.PATH else segment.forced
        if len(segment.token_ids) - behind < limit.min_tokens:
            return False
        if segment.token_ids[-1] in self.request.end_ids:
            return True
        stops = [self.request.stop]
        if segment.kind is Kind.SUMMARY:
            stops.append(self.request.summary_stop)
        written = segment.token_ids[segment.forced :]
        return any(stop is not None and stop(written) for stop in stops)

    def _opening(self, thought_id: int) -> int:
        assert self._control is not None
        return self._control.opens[thought_id - 1]

    def _closing(self, thought_id: int) -> int:
        assert self._control is not None
        return self._control.closes[thought_id - 1]
