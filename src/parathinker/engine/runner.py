"""What the engine asks of whatever computes: a forward, and the choice of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from parathinker.engine.attention import SegmentAttention
from parathinker.engine.batch import ForwardBatch
from parathinker.engine.kv_pool import KVPool
from parathinker.engine.native import library
from parathinker.engine.native.runner import NativeRunner, ProductTime, supports
from parathinker.engine.sampler import Sampled, SamplingRow, sample
from parathinker.errors import UsageError
from parathinker.modeling.checkpoint import DecoderWeights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.decoder import Decoder

WEIGHT_FORMATS = ("auto", "float32", "int8")


class Runner(Protocol):
    """A decoder on some device."""

    config: DecoderConfig
    device: torch.device
    dtype: torch.dtype

    @property
    def products(self) -> dict[int, ProductTime] | None:
        """Matrix products by the number of tokens in a forward; None where they are not timed."""
        ...

    def forward(self, batch: ForwardBatch, pool: KVPool) -> Tensor:
        """Logits [R, V] in float32; keys and values of the batch's tokens go into the pool."""
        ...

    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
        """Choose a token for each row."""
        ...


class TorchRunner:
    """The decoder in plain PyTorch operations: any device, any dtype."""

    products = None

    def __init__(self, decoder: Decoder) -> None:
        self.config, self.device, self.dtype = decoder.config, decoder.device, decoder.dtype
        self._decoder = decoder

    @torch.inference_mode()
    def forward(self, batch: ForwardBatch, pool: KVPool) -> Tensor:
        token_ids_N, positions_N, thought_ids_N, rows_R = (
            torch.from_numpy(array).to(self.device)
            for array in (batch.token_ids_N, batch.positions_N, batch.thought_ids_N, batch.rows_R)
        )
        attention = SegmentAttention(batch, pool)
        return self._decoder.forward(token_ids_N, positions_N, thought_ids_N, attention, rows_R)

    @torch.inference_mode()
    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
        return sample(logits_RV, rows)


def make_runner(
    config: DecoderConfig,
    weights: DecoderWeights,
    weight_format: str = "auto",
    threads: int | None = None,
    compile: bool = False,
) -> Runner:
    """The fastest runner for where the weights lie: compiled kernels on CPUs, else PyTorch."""
    why_not = native_missing_reason(config, weights)
    if why_not is None:
        return NativeRunner(
            config, weights, threads, "int8" if weight_format == "int8" else "float32"
        )
    if weight_format == "int8":
        raise UsageError(f"weights='int8' needs the compiled CPU kernels, but {why_not}")
    if weight_format == "float32" and weights.embedding.dtype != torch.float32:
        raise UsageError("weights='float32' goes with dtype='float32'")
    if threads is not None and weights.embedding.device.type == "cpu":
        torch.set_num_threads(threads)
    return TorchRunner(Decoder(config, weights, compile=compile))


def native_missing_reason(config: DecoderConfig, weights: DecoderWeights) -> str | None:
    """Why the compiled CPU kernels cannot run this model here; None where they can."""
    if weights.embedding.device.type != "cpu" or weights.embedding.dtype != torch.float32:
        return "the model is not in float32 on a CPU"
    if not supports(config):
        return "they do not know a model of these sizes"
    return library.missing_reason()
