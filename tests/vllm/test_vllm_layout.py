"""The arithmetic that scheduler, workers and askers share; vLLM is not needed for it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parathinker.backends.vllm.layout import (
    POSITION_MASK,
    THOUGHT_SHIFT,
    Openings,
    Piece,
    splice,
    words,
)

OPENINGS = Openings(tuple(range(100, 108)), 120)
lengths = st.integers(0, 9)


@st.composite
def sequences(draw):
    """Token ids with the position and thought id of each, written out from the definition."""
    tokens, expected = [], []
    at = draw(st.integers(1, 40))
    tokens += [7] * at
    expected += [(0, i) for i in range(at)]
    for _ in range(draw(st.integers(0, 3))):
        ids = draw(st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True))
        sizes = [1 + draw(lengths) for _ in ids]
        for thought_id, size in zip(ids, sizes, strict=True):
            tokens += [OPENINGS.paths[thought_id - 1], *[8] * (size - 1)]
            expected += [(thought_id, at + i) for i in range(size)]
        at += max(sizes)
        size = 1 + draw(lengths)
        tokens += [OPENINGS.summary, *[9] * (size - 1)]
        expected += [(0, at + i) for i in range(size)]
        at += size
    cut = draw(st.integers(1, len(tokens)))
    return tokens[:cut], expected[:cut]


@given(sequences())
def test_words_are_positions_and_thought_ids(case):
    tokens, expected = case
    found, beyond = words(tokens, OPENINGS)
    assert [(int(w) >> THOUGHT_SHIFT, int(w) & POSITION_MASK) for w in found] == expected
    # A token that is written behind goes on where the last one stands.
    assert len(tokens) + beyond == int(found[-1]) + 1


@given(sequences(), st.integers(0, 60))
def test_words_follow_from_the_tokens_before_alone(case, cut):
    tokens, _ = case
    cut = 1 + cut % len(tokens)
    assert words(tokens[:cut], OPENINGS)[0].tolist() == words(tokens, OPENINGS)[0][:cut].tolist()


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 90)), min_size=1, max_size=8),
    st.integers(1, 33),
)
def test_a_splice_takes_every_token_once_and_shares_every_whole_block(ranges, size):
    pieces = [Piece(str(i), start, start + length) for i, (start, length) in enumerate(ranges)]
    plan = splice(pieces, size)
    taken = list(zip(plan.piece_C.tolist(), plan.slot_C.tolist(), strict=True))
    wanted = [(i, slot) for i, p in enumerate(pieces) for slot in range(p.start, p.end)]
    assert sorted(taken) == wanted
    whole = [
        (i, block)
        for i, p in enumerate(pieces)
        for block in range(p.end)
        if p.start <= block * size and (block + 1) * size <= p.end
    ]
    assert list(plan.shared) == whole
    # Shared blocks stand in front, each at a place of its own.
    slots = np.array([i for _, b in whole for i in range(b * size, (b + 1) * size)], np.int64)
    assert plan.slot_C[: len(slots)].tolist() == slots.tolist()
    assert plan.tokens - len(slots) < 2 * size * len(pieces)
