"""A running request in KV memory: what is there, what the next forward computes, who reads what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from parathinker.engine.batch import BLOCK_TOKENS, Read
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.running import RunningRequest
from parathinker.engine.segment import LiveSegment, base_name, content_name
from parathinker.graph import Kind

Share = tuple[LiveSegment, int]
"""A segment, and how many of its pending tokens a forward takes."""


@dataclass(frozen=True)
class StepInput:
    """One request's part of a forward; indices count from its own first token."""

    tokens: list[int]
    positions: list[int]
    thought_ids: list[int]
    slots: list[int]
    reads: list[Read]
    rows: list[int]
    """Last tokens of the growing segments; empty while these have to wait."""


class Placement:
    """Keeps one request's segments in a pool."""

    def __init__(self, running: RunningRequest, pool: KVPool) -> None:
        self.running, self._pool = running, pool
        self._began = False
        self._unpublished: list[LiveSegment] = []
        """Of what others may share, what is not yet in memory in full."""
        self._doubtful = False
        """Whether tokens were computed that no logits have come of yet."""
        self._needed: list[LiveSegment] = []
        self._needed_for: tuple[LiveSegment, ...] | None = None
        self._contents: dict[int, bytes] = {}

    @property
    def reading(self) -> set[bytes]:
        """Names of prompt and given paths that are not in memory in full."""
        return {
            self._content(segment)
            for segment in (self.running.prompt, *self._given())
            if segment.pending
        }

    @property
    def pending(self) -> int:
        """Tokens to compute before the growing segments can get their next ones."""
        return sum(segment.pending for segment in self._need())

    @property
    def blocks_to_go(self) -> int:
        """Blocks that computing these takes."""
        return self.blocks_for([(segment, segment.pending) for segment in self._need()])

    def tokens_by_block(self) -> Iterator[tuple[int, int]]:
        """Blocks in use and how many tokens each of them holds."""
        for segment in self.running.segments:
            for at, block in enumerate(segment.blocks):
                yield block, min(segment.computed - at * BLOCK_TOKENS, BLOCK_TOKENS)

    def attach(self) -> None:
        """Take over from the pool whatever it still holds of history, prompt and given paths."""
        for segment in (*self._past(), *self._given()):
            segment.find(self._pool, self._base(segment))
        if not self._began:
            self.running.cached_tokens = sum(segment.computed for segment in self._past())
        self._unpublished = [self.running.prompt, *self._given()]

    def detach(self, *, discard: bool = False) -> None:
        """Give all memory back; ``discard`` its contents where they are worthless."""
        # What others follow from is given away last.
        given = {segment.index for segment in self._given()}
        for segment in reversed(self.running.segments):
            shared = segment.kind is not Kind.PATH or segment.index in given
            if segment.computed and shared and not discard:
                segment.publish(self._pool, self._base(segment))
            segment.drop(self._pool, discard=discard, doubtful=self._doubtful)
        self._needed_for, self._doubtful = None, False

    def publish_read(self) -> None:
        """Let other requests find prompt and given paths as soon as they are in memory in full."""
        for segment in self._unpublished:
            if segment.pending == 0:
                segment.publish(self._pool, self._base(segment))
        self._unpublished = [segment for segment in self._unpublished if segment.pending]

    def choose(self, limit: int) -> list[Share]:
        """What the next forward computes: everything pending if it fits, else a beginning of it.

        The last tokens of growing segments go through all together, since paths are compared by
        their number of steps; until the rest fits, they wait.
        """
        todo = [segment for segment in self._need() if segment.pending]
        if sum(segment.pending for segment in todo) <= limit:
            return [(segment, segment.pending) for segment in todo]
        shares = []
        for segment in todo:
            ready = segment.pending - (segment in self.running.growing)
            count = min(ready, limit)
            limit -= count
            if count:
                shares.append((segment, count))
            if count < ready:
                break
        return shares

    def blocks_for(self, shares: Sequence[Share]) -> int:
        """Blocks that computing these takes."""
        return sum(segment.blocks_for(count) for segment, count in shares)

    def place(self, shares: Sequence[Share]) -> StepInput:
        """Take memory for the tokens of a forward and describe it; from then on they count as
        computed."""
        self._began = True
        segments, graph = self.running.segments, self.running.graph
        tokens: list[int] = []
        positions: list[int] = []
        thought_ids: list[int] = []
        slots: list[int] = []
        reads: list[Read] = []
        last_token: dict[int, int] = {}
        for visible, siblings in groupby(shares, key=lambda s: graph.visible(s[0].index)):
            group = list(siblings)
            first, count = len(tokens), sum(n for _, n in group)
            for ancestor in (segments[index] for index in visible):
                if ancestor.computed:
                    reads.append(Read(first, count, ancestor.table, ancestor.computed, False))
            for segment, n in group:
                lacking = segment.blocks_for(n)
                if lacking:
                    blocks = self._pool.take(lacking)
                    assert blocks is not None, "the scheduler saw to it that there are enough"
                    segment.add_blocks(blocks)
                slots += segment.slots(n)
                begin, end = segment.computed, segment.computed + n
                reads.append(Read(len(tokens), n, segment.table, end, n > 1))
                tokens += segment.token_ids[begin:end]
                positions += range(segment.start + begin, segment.start + end)
                thought_ids += [segment.thought_id] * n
                segment.computed = end
                last_token[segment.index] = len(tokens) - 1
        growing = self.running.growing
        rows = []
        if all(segment.pending == 0 for segment in growing):
            rows = [last_token[segment.index] for segment in growing]
        self._doubtful = not rows
        return StepInput(tokens, positions, thought_ids, slots, reads, rows)

    # -- pieces ---------------------------------------------------------------------------------

    def _need(self) -> list[LiveSegment]:
        """Segments that must be complete in memory for the growing ones, these included."""
        growing = self.running.growing
        if self._needed_for is not growing:
            segments, graph = self.running.segments, self.running.graph
            wanted = {segment.index for segment in growing}
            for segment in reversed(segments):
                # What lies in memory in full needs nothing that it was computed from.
                if segment.index in wanted and segment.pending:
                    wanted.update(graph.visible(segment.index))
            self._needed = [segments[index] for index in sorted(wanted)]
            self._needed_for = growing
        return self._needed

    def _past(self) -> list[LiveSegment]:
        """Prompts and summaries up to this request's prompt: what other requests may share."""
        upto = self.running.segments[: self.running.prompt.index + 1]
        return [segment for segment in upto if segment.kind is not Kind.PATH]

    def _given(self) -> list[LiveSegment]:
        """Paths that came with the request: others may ask for a summary of some of them."""
        given = self.running.request.given_paths is not None
        return self.running.rounds[0].paths if given else []

    def _base(self, segment: LiveSegment) -> bytes:
        """What the names of a segment's blocks begin with."""
        segments = self.running.segments
        parents = self.running.graph.segments[segment.index].parents
        contents = [self._content(segments[p]) for p in parents]
        return base_name(segment.kind, segment.thought_id, segment.start, contents)

    def _content(self, segment: LiveSegment) -> bytes:
        """Names a complete segment with all it follows from."""
        if segment.index not in self._contents:
            self._contents[segment.index] = content_name(self._base(segment), segment.token_ids)
        return self._contents[segment.index]
