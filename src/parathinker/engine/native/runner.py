"""The decoder in C++ behind the engine's :class:`~parathinker.engine.runner.Runner`.

Its arithmetic for a row depends neither on the other rows of a forward, nor on how a prompt was
cut into chunks, nor on the number of threads: a request's logits are the same bits in any batch.
"""

# Shapes: N tokens, R rows of logits, V vocabulary, P positions, D head dim.

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parathinker.engine.batch import BLOCK_TOKENS, ForwardBatch
from parathinker.engine.native import library
from parathinker.engine.native.plain import plain
from parathinker.engine.native.sampler import sample
from parathinker.engine.sampler import Sampled, SamplingRow
from parathinker.modeling.checkpoint import DecoderWeights, LayerWeights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.rope import RotaryEmbedding
from parathinker.processors import default_threads

WeightFormat = Literal["float32", "int8"]
_MAX_HEAD_DIM = 1024
_FIRST_POSITIONS = 2048


class Pool(Protocol):
    """Keys and values where the library can reach them: float32, contiguous, in CPU memory."""

    keys_LBKDT: Tensor
    values_LBKTD: Tensor


@dataclass(frozen=True)
class ProductTime:
    """What matrix products took, so far."""

    forwards: int = 0
    seconds: float = 0.0

    def plus(self, seconds: float) -> ProductTime:
        """With one more forward."""
        return ProductTime(self.forwards + 1, self.seconds + seconds)


def supports(config: DecoderConfig) -> bool:
    """Whether the native decoder can compute such a model."""
    even = config.head_dim % 2 == 0 and config.num_heads % config.num_kv_heads == 0
    return even and config.head_dim <= _MAX_HEAD_DIM


class NativeRunner:
    """The decoder in C++, on the CPU, with packed weights of its own.

    Args:
        weights: read once and not kept, but for the embedding.
        threads: None for :func:`~parathinker.processors.default_threads`.
        weight_format: ``int8`` halves the time of a step and more, at a loss of precision; the
            embedding stays in float32.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: DecoderWeights,
        threads: int | None = None,
        weight_format: WeightFormat = "float32",
    ) -> None:
        self.config = config
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.weight_format = weight_format
        self.threads = threads or default_threads()
        self.products: dict[int, ProductTime] = {}
        self._library = library.load()
        self._embedding = plain(weights.embedding)
        self._rope = RotaryEmbedding(config, self.device)
        self._angles = self._compute_angles(min(_FIRST_POSITIONS, config.max_context))
        model = self._library.pt_create(
            library.Config(
                vocab=config.vocab_size,
                hidden=config.hidden_size,
                intermediate=config.intermediate_size,
                layers=config.num_layers,
                query_heads=config.num_heads,
                kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                int8=weight_format == "int8",
                norm_eps=config.rms_norm_eps,
                embedding=self._embedding.data_ptr(),
            )
        )
        library.check(0 if model else -1)
        self._model = ctypes.c_void_p(model)
        # Not at exit: that frees the memory anyway, and a forward may be running still.
        weakref.finalize(self, self._library.pt_destroy, self._model).atexit = False
        library.check(self._library.pt_set_threads(self._model, self.threads))
        for layer, layer_weights in enumerate(weights.layers):
            self._take_layer(layer, layer_weights)
        self._take_vector(0, library.Vector.NORM, weights.norm)
        self._take_matrix(0, library.Matrix.HEAD, weights.head, None)

    def forward(self, batch: ForwardBatch, pool: Pool) -> Tensor:
        """Logits [R, V] in float32; keys and values of the batch's tokens go into the pool."""
        cosines_PD, sines_PD = self._angles_up_to(int(batch.positions_N.max(initial=0)))
        logits_RV = torch.empty(len(batch.rows_R), self.config.vocab_size)
        reads = np.empty((len(batch.reads), 5), np.int64)
        first_block = 0
        for i, read in enumerate(batch.reads):
            reads[i] = read.first, read.tokens, read.keys, read.causal, first_block
            first_block += len(read.blocks)
        blocks = _ints(np.concatenate([read.blocks for read in batch.reads] or [reads[:0, 0]]))
        # Named, so that they live until the call returns.
        arrays = {
            "token_ids": _ints(batch.token_ids_N),
            "positions": _ints(batch.positions_N),
            "thought_ids": _ints(batch.thought_ids_N),
            "slots": _ints(batch.slots_N),
            "row_tokens": _ints(batch.rows_R),
            "read": reads,
            "blocks": blocks,
        }
        request = library.Batch(
            tokens=len(batch.token_ids_N),
            rows=len(batch.rows_R),
            reads=len(batch.reads),
            pool_blocks=pool.keys_LBKDT.shape[1],
            keys=self._pool_pointer(pool.keys_LBKDT, (self.config.head_dim, BLOCK_TOKENS)),
            values=self._pool_pointer(pool.values_LBKTD, (BLOCK_TOKENS, self.config.head_dim)),
            cosines=cosines_PD.data_ptr(),
            sines=sines_PD.data_ptr(),
            logits=logits_RV.data_ptr(),
            **{name: array.ctypes.data for name, array in arrays.items()},
        )
        library.check(self._library.pt_forward(self._model, request))
        before = self.products.get(request.tokens, ProductTime())
        self.products[request.tokens] = before.plus(request.products_seconds)
        return logits_RV

    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled]:
        """Choose a token for each row, as :func:`parathinker.engine.sampler.sample` does."""
        return sample(logits_RV, rows, self._model)

    def _take_layer(self, layer: int, w: LayerWeights) -> None:
        self._take_matrix(layer, library.Matrix.QKV, w.qkv, w.qkv_bias)
        self._take_matrix(layer, library.Matrix.OUTPUT, w.output, w.output_bias)
        self._take_matrix(layer, library.Matrix.GATE_UP, w.gate_up, w.gate_up_bias)
        self._take_matrix(layer, library.Matrix.DOWN, w.down, w.down_bias)
        self._take_vector(layer, library.Vector.INPUT_NORM, w.input_norm)
        self._take_vector(layer, library.Vector.POST_NORM, w.post_norm)
        for kind, vector in (
            (library.Vector.Q_NORM, w.q_norm),
            (library.Vector.K_NORM, w.k_norm),
            (library.Vector.THOUGHT, w.thought),
        ):
            if vector is not None:
                self._take_vector(layer, kind, vector)

    def _take_matrix(self, layer: int, kind: int, rows: Tensor, bias: Tensor | None) -> None:
        rows = plain(rows)
        bias = None if bias is None else plain(bias)
        at = None if bias is None else bias.data_ptr()
        status = self._library.pt_set_matrix(self._model, layer, kind, rows.data_ptr(), at)
        library.check(status)

    def _take_vector(self, layer: int, kind: int, values: Tensor) -> None:
        values = plain(values)
        status = self._library.pt_set_vector(
            self._model, layer, kind, values.data_ptr(), values.numel()
        )
        library.check(status)

    def _angles_up_to(self, position: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [P, D / 2] of all positions up to this one, and often more."""
        angles = self._angles
        if position >= len(angles[0]):
            angles = self._angles = self._compute_angles(max(position + 1, 2 * len(angles[0])))
        return angles

    def _compute_angles(self, positions: int) -> tuple[Tensor, Tensor]:
        half = self.config.head_dim // 2
        cosines_P1D, sines_P1D = self._rope.angles(torch.arange(positions))
        return plain(cosines_P1D[:, 0, :half]), plain(sines_P1D[:, 0, :half])

    def _pool_pointer(self, tensor: Tensor, last: tuple[int, int]) -> int:
        expected = (self.config.num_layers, tensor.shape[1], self.config.num_kv_heads, *last)
        if (
            tensor.shape != expected
            or tensor.dtype != torch.float32
            or tensor.device.type != "cpu"
            or not tensor.is_contiguous()
        ):
            raise ValueError(f"the pool should be contiguous float32 {expected} on the CPU")
        return tensor.data_ptr()


def _ints(array: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.ascontiguousarray(array, np.int64)
