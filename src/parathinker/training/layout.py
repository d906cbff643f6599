"""Where each segment stands in a packed row, and which rectangles attention has to compute there.

A row holds the segments of many examples, of any shapes, one after another. What a token sees is
always a whole segment or its own segment up to itself, so attention over the row is a list of
*pieces*: some columns' queries over some columns' keys, either all of them or causally. Nothing of
the size S×S is ever built, and examples cannot see each other because no piece joins them.

Examples of one shape and about one size are *stacked*: their segments of one sibling group stand
side by side, padded to one width where ``slack`` allows it, and count as one batched piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from parathinker.graph import ThoughtGraph


@dataclass(frozen=True)
class Block:
    """``count`` runs of ``width`` columns; the first begins at ``start``, the next a stride on."""

    start: int
    count: int
    width: int
    stride: int


@dataclass(frozen=True)
class Piece:
    """Attention of each run of queries over the run of keys that has its number."""

    queries: Block
    keys: Block
    causal: bool = False
    """Each run over itself, causally; otherwise every query over all of its run of keys."""
    padded: bool = False
    """Some of the keys are padding, which nobody may see."""


@dataclass(frozen=True)
class Span:
    """One segment's columns: ``length`` tokens, then padding up to ``width``."""

    example: int
    start: int
    length: int
    width: int
    visible: tuple[int, ...]
    """Segments of the row that it reads in full, itself not among them."""


@dataclass(frozen=True, eq=False)
class RowLayout:
    """The structure of a packed row; travels through the model to the attention function."""

    length: int
    """Columns, padding included."""
    spans: tuple[Span, ...]
    """Example by example, each in the order of its graph."""
    pieces: tuple[Piece, ...]
    """First the causal ones, which cover every column exactly once, then the others."""


@dataclass
class _Stack:
    """Examples of one shape that share the width of each segment."""

    examples: list[int]
    widths: list[int]


def lay_out(graphs: Sequence[ThoughtGraph], slack: int = 0) -> RowLayout:
    """Place many examples in one row.

    Args:
        slack: padding that stacking may cost, in tokens a segment. It pays where segments are
            short and calling a kernel costs more than it computes; 0 pads nothing.
    """
    firsts = [0, *accumulate(len(graph.segments) for graph in graphs)]
    spans: dict[int, Span] = {}
    own: list[Piece] = []
    context: list[Piece] = []
    start = 0
    for stack in _stacks(graphs, slack):
        rows = len(stack.examples)
        shape = graphs[stack.examples[0]]
        placed: dict[int, Block] = {}
        ragged = [
            any(graphs[e].segments[i].length < width for e in stack.examples)
            for i, width in enumerate(stack.widths)
        ]
        for group in shape.sibling_groups():
            widths = [stack.widths[i] for i in group]
            stride = sum(widths)
            for i, offset in zip(group, accumulate(widths, initial=0), strict=False):
                placed[i] = Block(start + offset, rows, stack.widths[i], stride)
            column = start
            for width, run in groupby(widths * rows):
                members = Block(column, len(list(run)), width, width)
                if width:
                    own.append(Piece(members, members, causal=True))
                column += members.count * width
            if stride:
                queries = Block(start, rows, stride, stride)
                context += _over_context(queries, shape.visible(group[0]), placed, ragged)
            start += rows * stride
        for row, example in enumerate(stack.examples):
            for i, segment in enumerate(graphs[example].segments):
                spans[firsts[example] + i] = Span(
                    example,
                    placed[i].start + row * placed[i].stride,
                    segment.length,
                    placed[i].width,
                    tuple(firsts[example] + j for j in shape.visible(i)),
                )
    return RowLayout(start, tuple(spans[i] for i in range(firsts[-1])), (*own, *context))


def _over_context(
    queries: Block, visible: Sequence[int], placed: dict[int, Block], ragged: list[bool]
) -> list[Piece]:
    """One group's queries over what it reads; segments that stand side by side as one run."""
    pieces: list[Piece] = []
    for i in visible:
        block = placed[i]
        if not block.width:
            continue
        padded = ragged[i]
        last = pieces[-1] if pieces else None
        # So they meet in every row of a stack: where the next group begins after the last row, a
        # stack of more than one row has others in between.
        if last is not None and last.keys.start + last.keys.width == block.start:
            pieces.pop()
            padded = padded or last.padded
            block = replace(block, start=last.keys.start, width=last.keys.width + block.width)
        pieces.append(Piece(queries, block, padded=padded))
    return pieces


def _stacks(graphs: Sequence[ThoughtGraph], slack: int) -> list[_Stack]:
    """Stack what has one shape, the largest first, as long as padding stays within ``slack``.

    An empty segment gets no padding, and stands with empty ones: no run is padding alone, so
    that every query has something to see in each of its pieces.
    """

    def shape(example: int) -> list[tuple[str, tuple[int, ...], bool]]:
        return [(s.kind.value, s.parents, s.length > 0) for s in graphs[example].segments]

    def lengths(example: int) -> list[int]:
        return [s.length for s in graphs[example].segments]

    order = sorted(range(len(graphs)), key=lambda e: (shape(e), lengths(e)), reverse=True)
    stacks: list[_Stack] = []
    for _, alike in groupby(order, key=shape):
        stack: _Stack | None = None
        for example in alike:
            graph = graphs[example]
            allowed = slack * len(graph.segments)
            widths = _even_widths(graph, slack)
            if stack is not None:
                joined = [max(pair) for pair in zip(stack.widths, widths, strict=True)]
                rows = len(stack.examples)
                padding = (rows + 1) * sum(joined) - rows * sum(stack.widths) - graph.length
                if padding <= allowed:
                    stack.examples.append(example)
                    stack.widths = joined
                    continue
            stack = _Stack([example], widths)
            stacks.append(stack)
    return stacks


def _even_widths(graph: ThoughtGraph, slack: int) -> list[int]:
    """The width of each segment: siblings get one width where that costs little padding."""
    widths = [segment.length for segment in graph.segments]
    for group in graph.sibling_groups():
        members = [i for i in group if widths[i]]
        largest = max((widths[i] for i in members), default=0)
        if sum(largest - widths[i] for i in members) <= slack * len(members):
            for i in members:
                widths[i] = largest
    return widths
