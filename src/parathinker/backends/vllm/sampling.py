"""The native engine's sampler inside vLLM, as a logits processor.

Whatever chooses a token, there is one definition of it (``engine/sampler.py``): the same bans,
penalties, cuts and randomness, so the same seed gives the same answer on either engine as long as
their logits agree. vLLM itself only takes the likeliest of what is left, and reports
log-probabilities of the logits as they came.
"""

# Shapes: R rows of vLLM's batch, W rows that are ours, V vocabulary.

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from parathinker.backends.vllm.sampling_params import RowParams
from parathinker.engine.choice import penalised
from parathinker.engine.native import library
from parathinker.engine.native.sampler import sample as native_sample
from parathinker.engine.request import Penalties
from parathinker.engine.sampler import LogitEdits, SamplingRow, choose


class ThinkingSampler(LogitsProcessor):  # type: ignore[misc]  # vLLM ships no types for it
    """Leaves each of our requests one token to choose."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        at = sorted(row for row in self._rows if row < len(logits))
        at_W = torch.tensor(at, device=logits.device)
        every = len(at) == len(logits)
        logits_WV = logits if every else logits[at_W]
        chosen_W = _choose(logits_WV.float(), [self._rows[row].now() for row in at])
        if every:
            logits.fill_(-torch.inf)
        else:
            logits[at_W] = -torch.inf
        logits[at_W, chosen_W] = 0.0
        return logits


def _choose(logits_WV: Tensor, rows: list[SamplingRow]) -> Tensor:
    """Tokens [W] on the logits' device, by the native engine's own sampler of that device."""
    if logits_WV.device.type == "cpu" and library.available():
        return torch.tensor([one.token for one in native_sample(logits_WV, rows)])
    return choose(logits_WV, rows)


class Row:
    """One request's tokens to come."""

    def __init__(self, params: RowParams, output: list[int]) -> None:
        self._params, self._output = params, output
        self._random = random.Random(params.seed)
        self._uniforms: list[float] = []
        self._bans = LogitEdits.ban(params.banned)
        self._early_bans = LogitEdits.ban(params.early_banned)
        self._penalties = Penalties(*params.penalties)

    def now(self) -> SamplingRow:
        """How to choose the next token; asking again changes nothing."""
        p, at = self._params, len(self._output)
        edits = self._early_bans if at < p.early else self._bans
        if p.penalties:
            counts = Counter([*p.written, *self._output])
            edits = penalised(edits, self._penalties, frozenset(p.prompts), counts)
        return SamplingRow(p.temperature, p.top_k, p.top_p, p.min_p, self._uniform(at), edits)

    def _uniform(self, at: int) -> float:
        if self._params.temperature == 0:
            return 0.0
        while len(self._uniforms) <= self._params.drawn + at:
            self._uniforms.append(self._random.random())
        return self._uniforms[self._params.drawn + at]


def _row(params: Any, prompt: list[int] | None, output: list[int]) -> Row | None:
    found = RowParams.from_args(params.extra_args)
    return None if found is None else Row(found, output)
