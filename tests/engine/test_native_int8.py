"""The native decoder with int8 weights against the same quantisation written in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from native_cases import Graph, RandomModel, largest_difference, needs_library, read_model
from parathinker.engine.native import library
from parathinker.engine.native.runner import NativeRunner
from parathinker.modeling.decoder import Decoder

pytestmark = needs_library

GROUP = 64
Floats = NDArray[np.float32]


def quantise(rows: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Whole numbers [rows, groups, 64], and scales [rows, groups]."""
    missing = -rows.shape[1] % GROUP
    grouped = np.pad(rows, ((0, 0), (0, missing))).reshape(len(rows), -1, GROUP)
    largest = np.abs(grouped).max(-1)
    inverse = np.divide(
        np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0, dtype=np.float32
    )
    return np.rint(grouped * inverse[..., None]).astype(np.int32), largest / np.float32(127)


def quantised_linear(x: Floats, weight: Floats) -> Floats:
    x_quants, x_scales = quantise(x)
    w_quants, w_scales = quantise(weight)
    sums = np.einsum("ngk,mgk->nmg", x_quants, w_quants)
    return np.einsum("nmg,ng,mg->nm", sums, x_scales, w_scales, dtype=np.float64)


@pytest.mark.parametrize("build", ["generic", "avx2", "avx512"])
@pytest.mark.parametrize("hidden", [64, 84, 200])
def test_a_linear_layer_is_the_quantised_product(
    random_model: RandomModel, monkeypatch: pytest.MonkeyPatch, build: str, hidden: int
) -> None:
    monkeypatch.setenv(library.SWITCH, build)
    if not library.available():
        pytest.skip(str(library.missing_reason()))
    config, weights = read_model(random_model(hidden_size=hidden, layers=1, tied=False))
    # With nothing added to the embedding, the logits are the head of its norm.
    silent = [
        replace(w, output=torch.zeros_like(w.output), down=torch.zeros_like(w.down))
        for w in weights.layers
    ]
    weights = replace(weights, layers=tuple(silent))
    graph = Graph(config, prompt=13, paths=[], summary=0)
    runner = NativeRunner(config, weights, threads=2, weight_format="int8")
    got = runner.forward(graph.grow((graph.prompt, 13)), graph.pool)
    x = F.rms_norm(
        weights.embedding[graph.prompt.ids], (hidden,), weights.norm, config.rms_norm_eps
    )
    expected = quantised_linear(x.numpy(), weights.head.numpy())
    assert got.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4 * np.abs(expected).max())


def test_the_whole_forward_is_near_the_exact_one(random_model: RandomModel) -> None:
    config, weights = read_model(random_model(hidden_size=128, intermediate_size=256))
    graphs = [Graph(config, prompt=30, paths=[9, 9], summary=4) for _ in range(2)]
    int8 = graphs[0].run(NativeRunner(config, weights, 2, "int8").forward)
    exact = graphs[1].dense(Decoder(config, weights))

    def spread(logits: dict[str, Tensor]) -> float:
        return float(torch.cat(list(logits.values())).std())

    error = float(torch.cat([(int8[name] - exact[name]).flatten() for name in exact]).std())
    assert 0 < error < 0.05 * spread(exact)
    assert largest_difference(int8, exact) > 1e-3
