"""Choosing tokens in C++: the same definition as ``engine/sampler.py``, several times as fast."""

# Shapes: R rows, V vocabulary.

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from parathinker.engine.native import library
from parathinker.engine.native.plain import plain
from parathinker.engine.sampler import Sampled, SamplingRow


def sample(
    logits_RV: Tensor, rows: Sequence[SamplingRow], model: ctypes.c_void_p | None = None
) -> list[Sampled]:
    """Choose a token for each row, as :func:`parathinker.engine.sampler.sample` does.

    Args:
        model: of the library; rows are shared out among its threads. None: this thread does all.

    Raises:
        RuntimeError: there is no library here, or an edit is of a token that is not there.
    """
    logits_RV = plain(logits_RV)
    edits = [row.edits for row in rows]
    tokens, divide, subtract = (
        np.ascontiguousarray(np.concatenate([getattr(e, name) for e in edits]), dtype)
        for name, dtype in (
            ("tokens_N", np.int64),
            ("divide_N", np.float32),
            ("subtract_N", np.float32),
        )
    )
    asked = (library.SampledRow * len(rows))()
    first = 0
    for one, row in zip(asked, rows, strict=True):
        one.temperature, one.top_k = row.temperature, row.top_k
        one.top_p, one.min_p, one.uniform = row.top_p, row.min_p, row.uniform
        one.first_edit, one.edits = first, len(row.edits.tokens_N)
        first += one.edits
    request = library.Sampling(
        rows=len(rows),
        vocab=logits_RV.shape[-1],
        logits=logits_RV.data_ptr(),
        row=ctypes.addressof(asked),
        edit_tokens=tokens.ctypes.data,
        edit_divide=divide.ctypes.data,
        edit_subtract=subtract.ctypes.data,
    )
    library.check(library.load().pt_sample(model, request))
    return [Sampled(one.token, one.logprob, bool(one.sound)) for one in asked]
