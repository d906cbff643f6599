"""The native decoder against the plain one, and what its results do not depend on."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from native_cases import Graph, RandomModel, largest_difference, needs_library, read_model
from parathinker.engine.batch import ForwardBatch
from parathinker.engine.native import library
from parathinker.engine.native.runner import NativeRunner
from parathinker.modeling.decoder import Decoder

pytestmark = needs_library

TOLERANCE = 1e-4


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("build", ["generic", "avx2", "avx512"])
@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {}),
        ("llama", {"tied": False, "thought_std": None}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ],
    ids=lambda value: str(value),
)
def test_every_architecture_equals_the_plain_decoder(
    random_model: RandomModel,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    model_type: str,
    options: dict[str, object],
) -> None:
    monkeypatch.setenv(library.SWITCH, build)
    if not library.available():
        pytest.skip(str(library.missing_reason()))
    config, weights = read_model(random_model(model_type, **options))
    runner = NativeRunner(config, weights, threads=2)
    graph = Graph(config, prompt=21, paths=[1, 9, 14], summary=6)
    got = graph.run(runner.forward, prompt_chunk=8)
    assert largest_difference(got, graph.dense(Decoder(config, weights))) < TOLERANCE


@pytest.mark.parametrize("build", ["generic", "avx2", "avx512"])
@pytest.mark.parametrize("head_dim", [2, 8, 16, 24, 32, 64, 80])
@pytest.mark.parametrize("heads", [(3, 1), (7, 7), (12, 4)])
def test_odd_sizes_equal_the_plain_decoder(
    random_model: RandomModel,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    head_dim: int,
    heads: tuple[int, int],
) -> None:
    monkeypatch.setenv(library.SWITCH, build)
    if not library.available():
        pytest.skip(str(library.missing_reason()))
    folder = random_model(
        head_dim=head_dim,
        hidden_size=84,
        intermediate_size=75,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        layers=1,
    )
    config, weights = read_model(folder)
    graph = Graph(config, prompt=19, paths=[5, 11], summary=3)
    got = graph.run(NativeRunner(config, weights, threads=1).forward)
    assert largest_difference(got, graph.dense(Decoder(config, weights))) < TOLERANCE


def test_long_segments_equal_the_plain_decoder(random_model: RandomModel) -> None:
    config, weights = read_model(random_model())
    graph = Graph(config, prompt=531, paths=[270, 260, 3], summary=20)
    got = graph.run(NativeRunner(config, weights, threads=2).forward, prompt_chunk=200)
    assert largest_difference(got, graph.dense(Decoder(config, weights))) < TOLERANCE


@pytest.mark.parametrize("weight_format", ["float32", "int8"])
@pytest.mark.parametrize("build", ["generic", "avx2", "avx512"])
def test_a_prompt_gives_the_same_bits_however_it_is_cut(
    random_model: RandomModel, monkeypatch: pytest.MonkeyPatch, build: str, weight_format: str
) -> None:
    monkeypatch.setenv(library.SWITCH, build)
    if not library.available():
        pytest.skip(str(library.missing_reason()))
    config, weights = read_model(random_model())
    runner = NativeRunner(config, weights, 2, weight_format)
    results = [
        Graph(config, prompt=300, paths=[4], summary=2).run(runner.forward, chunk)
        for chunk in (1000, 37, 8, 1)
    ]
    assert all(same_bits(results[0], other) for other in results[1:])


@pytest.mark.parametrize("weight_format", ["float32", "int8"])
@pytest.mark.parametrize("build", ["generic", "avx2", "avx512"])
def test_a_path_gives_the_same_bits_whatever_else_is_in_the_batch(
    random_model: RandomModel, monkeypatch: pytest.MonkeyPatch, build: str, weight_format: str
) -> None:
    monkeypatch.setenv(library.SWITCH, build)
    if not library.available():
        pytest.skip(str(library.missing_reason()))
    config, weights = read_model(random_model(max_paths=40))
    runner = NativeRunner(config, weights, 2, weight_format)
    results = []
    for paths in (1, 2, 3, 5, 8, 11, 16, 31):
        graph = Graph(config, prompt=270, paths=[12] * paths, summary=0)
        # The path that is in all of them has the same ids everywhere.
        graph.paths[-1].ids, graph.paths[-1].thought = list(range(12)), 1
        results.append(graph.run(runner.forward)[f"path {paths - 1}"])
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("weight_format", ["float32", "int8"])
def test_threads_do_not_change_a_bit(random_model: RandomModel, weight_format: str) -> None:
    config, weights = read_model(random_model())
    results = [
        Graph(config, prompt=300, paths=[30, 20, 7, 7, 7], summary=9).run(
            NativeRunner(config, weights, threads, weight_format).forward, 100
        )
        for threads in (1, 2, 3, 7)
    ]
    assert all(same_bits(results[0], other) for other in results[1:])


def test_sharing_a_read_does_not_change_a_bit(random_model: RandomModel) -> None:
    config, weights = read_model(random_model())
    runner = NativeRunner(config, weights, threads=2)
    results = []
    for shared in (True, False):
        graph = Graph(config, prompt=40, paths=[2, 2, 2], summary=0)
        runner.forward(graph.grow((graph.prompt, 40)), graph.pool)
        batch = graph.grow(*((path, 1) for path in graph.paths), shared=shared)
        results.append(runner.forward(batch, graph.pool))
    assert torch.equal(*results)


def test_a_forward_may_want_no_logits_or_only_some(random_model: RandomModel) -> None:
    config, weights = read_model(random_model())
    runner = NativeRunner(config, weights, threads=2)

    def first_path(rows: list[int]) -> tuple[Tensor, Tensor]:
        graph = Graph(config, prompt=20, paths=[2], summary=0)
        batch = graph.grow((graph.prompt, 20))
        columns = (batch.token_ids_N, batch.positions_N, batch.thought_ids_N, batch.slots_N)
        some = ForwardBatch(*columns, batch.reads, np.array(rows, np.int64))
        logits = runner.forward(some, graph.pool)
        return logits, runner.forward(graph.grow((graph.paths[0], 1)), graph.pool)

    everything, after_everything = first_path(list(range(20)))
    for rows in ([], [19], [7, 3]):
        logits, after = first_path(rows)
        assert torch.equal(logits, everything[rows])
        assert torch.equal(after, after_everything)


def test_positions_beyond_the_first_table_are_reached(random_model: RandomModel) -> None:
    config, weights = read_model(random_model())
    graph = Graph(config, prompt=12, paths=[3], summary=0)
    graph.prompt.start, graph.paths[0].start = 3500, 3512
    got = graph.run(NativeRunner(config, weights, threads=1).forward)
    assert largest_difference(got, graph.dense(Decoder(config, weights))) < TOLERANCE


def test_a_fork_computes_on(random_model: RandomModel) -> None:
    config, weights = read_model(random_model())
    runner = NativeRunner(config, weights, threads=2)
    before = Graph(config, prompt=40, paths=[5], summary=0).run(runner.forward)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about threads and fork
        child = os.fork()
    if child == 0:
        status = 1
        try:
            after = Graph(config, prompt=40, paths=[5], summary=0).run(runner.forward)
            status = 0 if same_bits(before, after) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("token_ids_N", 100_000, "no such token id"),
        ("slots_N", 100_000, "no such slot"),
        ("thought_ids_N", 99, "no such thought id"),
        ("rows_R", 99, "logits of a token that is not there"),
    ],
)
def test_a_batch_that_reaches_outside_is_an_error(
    random_model: RandomModel, field: str, value: int, message: str
) -> None:
    config, weights = read_model(random_model())
    graph = Graph(config, prompt=4, paths=[1], summary=0)
    batch = graph.grow((graph.prompt, 4))
    getattr(batch, field)[-1] = value
    with pytest.raises(RuntimeError, match=message):
        NativeRunner(config, weights, threads=1).forward(batch, graph.pool)


def test_threads_are_openmps_unless_somebody_says(
    random_model: RandomModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = read_model(random_model())
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert NativeRunner(config, weights).threads == 3
    assert NativeRunner(config, weights, threads=2).threads == 2


def test_the_library_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "0")
    assert not library.available()
    with pytest.raises(RuntimeError, match=f"{library.SWITCH}=0"):
        library.load()
