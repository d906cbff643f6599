"""The thought graph: the one definition of a parallel-thinking sequence.

A sequence is an acyclic graph of *segments*, runs of tokens with a kind, a thought id and
parents. Visibility, positions and thought ids all follow from it; training masks, the engine's
KV reuse and position ids are read off this module and computed nowhere else.

- A token sees its own segment causally and every token of its segment's ancestors, no other; but
  a prompt that hangs under a summary, and whatever hangs under that prompt, does not see the paths
  of earlier turns: of them, prompts and summaries remain.
- A segment starts at the largest end position among its parents (0 if it has none).
- The thought id picks the row of the thought embedding: 0 for prompt and summary, i for the path
  that opens with ``<think i>``.

What parallel thinking gains by that is measured against two other graphs of the same tokens, see
:class:`Layout`.

Sequential reasoning is a chain; parallel paths hang under one prompt; a summary has the prompt
and its paths as parents; further rounds and further prompts hang under a summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from parathinker.errors import UsageError


class Kind(str, Enum):
    """What a segment is for."""

    PROMPT = "prompt"
    PATH = "path"
    SUMMARY = "summary"


class Layout(str, Enum):
    """How the paths of a round lie beside each other."""

    PARALLEL = "parallel"
    """All under the same parent, at the same positions, unseen by each other."""
    FLAT_POSITIONS = "flat-positions"
    """Unseen by each other, but each at positions of its own, behind the one before."""
    CHAIN = "chain"
    """Each under the one before: one flat causal text, as a re-prefill of all paths reads it."""


@dataclass(frozen=True)
class Segment:
    """A run of ``length`` tokens. ``parents`` are indices of earlier segments of the graph."""

    kind: Kind
    length: int
    parents: tuple[int, ...] = ()
    thought_id: int = 0

    def __post_init__(self) -> None:
        if self.length < 0:
            raise UsageError(f"segment length must be 0 or more, got {self.length}")
        if self.kind is Kind.PATH and self.thought_id < 1:
            raise UsageError(f"a path's thought id must be 1 or more, got {self.thought_id}")
        if self.kind is not Kind.PATH and self.thought_id != 0:
            raise UsageError(f"a {self.kind.value} has thought id 0, got {self.thought_id}")


@dataclass
class ThoughtGraph:
    """Segments in an order where parents come before children; grows as tokens are written.

    Because the order is topological by construction, the graph is always acyclic. Flat sequences
    (``positions``, ``thought_ids``, ``token_segments``) list the segments' tokens in that order.
    """

    segments: list[Segment] = field(default_factory=list)
    flat_positions: bool = False
    """Against the rule above, each segment starts where the one before it in the order ends."""
    _visible: list[tuple[int, ...]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        given, self.segments, self._visible = self.segments, [], []
        for segment in given:
            self._append(segment)

    @classmethod
    def parallel(
        cls,
        prompt: int,
        paths: Sequence[tuple[int, int]],
        summary: int | None = None,
    ) -> ThoughtGraph:
        """The standard graph: ``paths`` lists ``(thought_id, length)``; all lengths in tokens."""
        graph = cls()
        root = graph.add(Kind.PROMPT, prompt)
        heads = [graph.add(Kind.PATH, n, (root,), thought_id=i) for i, n in paths]
        if summary is not None:
            graph.add(Kind.SUMMARY, summary, (root, *heads))
        return graph

    def add(
        self, kind: Kind, length: int = 0, parents: Iterable[int] = (), thought_id: int = 0
    ) -> int:
        """Append a segment and return its index.

        Raises:
            UsageError: a parent is not an earlier segment, or the thought id does not fit the kind.
        """
        self._append(Segment(kind, length, tuple(sorted(set(parents))), thought_id))
        return len(self.segments) - 1

    def _append(self, segment: Segment) -> None:
        index = len(self.segments)
        for parent in segment.parents:
            if not 0 <= parent < index:
                raise UsageError(f"segment {index}: parent {parent} is not an earlier segment")
        seen = set(segment.parents)
        for parent in segment.parents:
            seen.update(self._visible[parent])
        if segment.kind is Kind.PROMPT:
            seen = {i for i in seen if self.segments[i].kind is not Kind.PATH}
        self.segments.append(segment)
        self._visible.append(tuple(sorted(seen)))

    def extend(self, index: int, tokens: int = 1) -> None:
        """Grow a segment by ``tokens``. Its children move, so grow parents before children."""
        segment = self.segments[index]
        self.segments[index] = replace(segment, length=segment.length + tokens)

    def visible(self, index: int) -> tuple[int, ...]:
        """Segments that ``index`` reads in full, in order, itself not among them."""
        return self._visible[index]

    def start(self, index: int) -> int:
        """Position of the segment's first token."""
        return self.end(index) - self.segments[index].length

    def end(self, index: int) -> int:
        """Position right after the segment's last token."""
        return self._ends(index + 1)[index]

    @property
    def length(self) -> int:
        """Tokens in all segments together."""
        return sum(segment.length for segment in self.segments)

    def positions(self) -> list[int]:
        """Position id of each token, flat."""
        ends = self._ends(len(self.segments))
        return [
            position
            for end, segment in zip(ends, self.segments, strict=True)
            for position in range(end - segment.length, end)
        ]

    def _ends(self, count: int) -> list[int]:
        """End positions of the first ``count`` segments."""
        ends: list[int] = []
        for index, segment in enumerate(self.segments[:count]):
            behind = range(index)[-1:] if self.flat_positions else segment.parents
            ends.append(max((ends[i] for i in behind), default=0) + segment.length)
        return ends

    def thought_ids(self) -> list[int]:
        """Thought id of each token, flat."""
        return [s.thought_id for s in self.segments for _ in range(s.length)]

    def token_segments(self) -> list[int]:
        """Index of each token's segment, flat."""
        return [i for i, s in enumerate(self.segments) for _ in range(s.length)]

    def reads(self) -> list[list[bool]]:
        """``reads()[i][j]``: segment ``i`` sees all tokens of segment ``j`` (``i`` != ``j``)."""
        n = len(self.segments)
        return [[j in read for j in range(n)] for read in map(set, self._visible)]

    def sees(self, query: int, key: int) -> bool:
        """Whether the token at flat index ``query`` attends to the one at flat index ``key``."""
        owner = self.token_segments()
        if owner[query] == owner[key]:
            return key <= query
        return owner[key] in self._visible[owner[query]]

    def sibling_groups(self) -> list[tuple[int, ...]]:
        """Segments grouped by what they read, in order: equal reads, contiguous indices.

        Members of a group never see each other, and all of them read the same keys, so attention
        can read those keys once for the whole group.
        """
        groups: list[list[int]] = []
        for index, visible in enumerate(self._visible):
            if groups and self._visible[groups[-1][0]] == visible:
                groups[-1].append(index)
            else:
                groups.append([index])
        return [tuple(group) for group in groups]
