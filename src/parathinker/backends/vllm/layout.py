"""Where tokens stand, and how a context is put together from the blocks of others.

vLLM knows one sequence a request. What it must be told of a token beyond its id, its position and
thought id, follows from the token ids before it, because control tokens open every segment: so it
is read off them, through the thought graph.
"""

# Shapes: T tokens of a sequence, C tokens of a context that is put together.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from parathinker.graph import Kind, ThoughtGraph

Ints = NDArray[np.int64]

THOUGHT_SHIFT = 24
"""A token's word is its thought id above so many bits, and its position in them."""
POSITION_MASK = (1 << THOUGHT_SHIFT) - 1


@dataclass(frozen=True)
class Openings:
    """The tokens that open segments."""

    paths: tuple[int, ...]
    """``paths[i - 1]`` opens a path with thought id i."""
    summary: int


def words(tokens: Sequence[int], openings: Openings) -> tuple[Ints, int]:
    """Each token's word, and what the word of any token after them is beyond its index.

    Tokens come in the order of writing: a prompt, its paths, their summary, further rounds of paths
    and summaries.
    """
    tokens_T = np.asarray(tokens, np.int64)
    thought_ids = {token: i for i, token in enumerate(openings.paths, 1)}
    opening = np.asarray([*openings.paths, openings.summary], np.int64)
    starts = np.flatnonzero(np.isin(tokens_T, opening))
    ends = [*starts.tolist(), len(tokens_T)]
    graph = ThoughtGraph()
    head, paths = graph.add(Kind.PROMPT, ends[0]), list[int]()
    for start, end in pairwise(ends):
        token = int(tokens_T[start])
        if token == openings.summary:
            head, paths = graph.add(Kind.SUMMARY, end - start, (head, *paths)), []
        else:
            paths.append(graph.add(Kind.PATH, end - start, (head,), thought_ids[token]))
    words_T = np.concatenate(
        [
            (segment.thought_id << THOUGHT_SHIFT)
            + np.arange(graph.start(i), graph.end(i), dtype=np.int64)
            for i, segment in enumerate(graph.segments)
        ]
    )
    last = len(graph.segments) - 1
    next_word = (graph.segments[last].thought_id << THOUGHT_SHIFT) + graph.end(last)
    return words_T, next_word - len(tokens_T)


@dataclass(frozen=True)
class Piece:
    """Tokens ``start`` to ``end`` of a stored sequence, known by its key."""

    source: str
    start: int
    end: int


@dataclass(frozen=True)
class Splice:
    """A context out of pieces: whole blocks shared as they lie, then the tokens left over.

    Keys carry their positions, so attention does not care for the order of slots.
    """

    pieces: tuple[Piece, ...]
    shared: tuple[tuple[int, int], ...]
    """Blocks that are shared: a piece's index, and the block's in its sequence."""
    piece_C: Ints
    """For each token of the context the piece it comes from, shared ones first."""
    slot_C: Ints
    """And its place in that piece's sequence."""

    @property
    def tokens(self) -> int:
        """Tokens of the context."""
        return len(self.slot_C)


def splice(pieces: Sequence[Piece], block_tokens: int) -> Splice:
    """Share all blocks that lie in a piece as a whole."""
    shared: list[tuple[int, int]] = []
    whole: list[tuple[int, Ints]] = []
    rest: list[tuple[int, Ints]] = []
    for i, piece in enumerate(pieces):
        first, behind = -(-piece.start // block_tokens), piece.end // block_tokens
        if first >= behind:
            rest.append((i, np.arange(piece.start, piece.end)))
            continue
        shared += [(i, block) for block in range(first, behind)]
        whole.append((i, np.arange(first * block_tokens, behind * block_tokens)))
        rest.append((i, np.arange(piece.start, first * block_tokens)))
        rest.append((i, np.arange(behind * block_tokens, piece.end)))
    runs = [*whole, *rest]
    return Splice(
        tuple(pieces),
        tuple(shared),
        np.concatenate([np.full(len(slots), i, np.int64) for i, slots in runs]),
        np.concatenate([slots for _, slots in runs]).astype(np.int64),
    )
