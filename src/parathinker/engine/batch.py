"""What one forward works on: tokens of any requests, and which stored keys each of them reads.

Every decoder takes this one description, so what a query sees is decided in one place (by the
thought graph, in ``request.py``) and only carried out elsewhere.
"""

# Shapes: N tokens, R rows of logits wanted, S reads, T table entries. All arrays are int64.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

BLOCK_TOKENS = 8
"""Tokens of a KV block. Small, because each path leaves half a block unused on average."""


@dataclass(frozen=True)
class Read:
    """Consecutive tokens of a forward that read the same keys: the beginning of one segment."""

    first: int
    """Index, in the forward, of the first token that reads."""
    tokens: int
    """How many tokens read, one behind the other."""
    blocks: Ints
    """The segment's blocks in the KV pool, in order; only the last one may be partly filled."""
    keys: int
    """How many of the segment's keys the last of these tokens sees."""
    causal: bool
    """The i-th token before the last one sees i keys fewer; otherwise all see the same."""


@dataclass(frozen=True)
class ForwardBatch:
    """Input of one forward.

    Keys and values of all N tokens are written to their slots first, in each layer, and read
    then, so tokens of one forward may read each other. A token's reads are processed in the order
    of ``reads``, which for each request depends on its graph alone: with decoders whose arithmetic
    for a row does not depend on the other rows, a request's logits are the same bits in any batch.
    """

    token_ids_N: Ints
    positions_N: Ints
    thought_ids_N: Ints
    slots_N: Ints
    """Where each token's key and value go: block times BLOCK_TOKENS plus the place in it."""
    reads: tuple[Read, ...]
    rows_R: Ints
    """Tokens whose logits are wanted."""
