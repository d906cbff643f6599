"""Batches: every example once an epoch, in an order of its own, the same on every run."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import example_files, recipe

from parathinker.data.schema import Example, PathText, read_examples, write_examples
from parathinker.errors import UsageError
from parathinker.graph import Kind, ThoughtGraph
from parathinker.prompt import PromptCodec
from parathinker.training.batch import EncodedExample
from parathinker.training.batches import INDEX, WORK, Batches, Epochs
from parathinker.training.recipe import StageRecipe


@pytest.fixture(scope="module")
def codec(tiny_random_model: Path) -> PromptCodec:
    return PromptCodec.from_folder(tiny_random_model)


def stage(files: list[str], steps: int | None = None, **options: Any) -> StageRecipe:
    data = {"source": "examples", "files": files, **options.pop("data", {})}
    epochs = {} if steps is not None else {"epochs": options.pop("epochs", 1)}
    return recipe(steps, data=data, **{"batch_tokens": 200, **epochs, **options}).stages[0]


def questions(batches: Batches, indices: range) -> list[str]:
    return [example.question for i in indices for example in batches.examples(i)]


def test_every_example_comes_once_an_epoch_and_each_epoch_has_its_own_order(
    tmp_path: Path, codec: PromptCodec
) -> None:
    files = example_files(tmp_path, count=40)
    batches = Batches(stage(files, epochs=3), codec, seed=1)
    assert isinstance(batches.source, Epochs)
    everything = sorted(example.question for example in read_examples(Path(files[0])))
    seen = questions(batches, range(len(batches)))
    epochs = [seen[i * 40 : (i + 1) * 40] for i in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [everything] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != everything


def test_a_batch_is_the_same_whatever_was_asked_for_before(
    tmp_path: Path, codec: PromptCodec
) -> None:
    files = example_files(tmp_path, count=30)
    whole = Batches(stage(files, epochs=2), codec, seed=1)
    in_order = [whole[i] for i in range(len(whole))]
    again = Batches(stage(files, epochs=2), codec, seed=1)
    for i in random.Random(0).sample(range(len(again)), len(again)):
        batch = again[i]
        assert batch[INDEX] == i
        assert torch.equal(batch["input_ids"], in_order[i]["input_ids"])
    other = Batches(stage(files, epochs=2), codec, seed=2)
    assert questions(other, range(len(other))) != questions(whole, range(len(whole)))


def test_steps_follow_from_epochs(tmp_path: Path, codec: PromptCodec) -> None:
    files = example_files(tmp_path, count=20)
    one = Batches(stage(files, epochs=1), codec, seed=0)
    assert len(one) == one.steps
    accumulated = Batches(stage(files, epochs=2, batches_per_step=4), codec, seed=0)
    two = Batches(stage(files, epochs=2), codec, seed=0)
    assert accumulated.steps == -(-two.steps // 4)
    assert len(accumulated) == 4 * accumulated.steps
    half = Batches(stage(files, epochs=0.5), codec, seed=0)
    assert half.steps == -(-one.steps // 2)
    assert Batches(stage(files, steps=7), codec, seed=0).steps == 7


def test_examples_that_are_too_long_are_left_out_and_counted(
    tmp_path: Path, codec: PromptCodec
) -> None:
    files = example_files(tmp_path, count=12)
    said: list[str] = []
    lengths = Batches(stage(files), codec, seed=0).source.lengths  # type: ignore[union-attr]
    limit = sorted(lengths)[7]
    kept = Batches(stage(files, data={"max_tokens": limit}), codec, seed=0, say=said.append)
    assert max(kept.source.lengths) == limit  # type: ignore[union-attr]
    assert said == [f"4 of 12 examples have more than {limit} tokens and are left out"]
    with pytest.raises(UsageError, match="none of the examples has at most"):
        Batches(stage(files, data={"max_tokens": 3}), codec, seed=0)


def test_lengths_are_remembered_as_long_as_the_texts_stay_the_same(
    tmp_path: Path, codec: PromptCodec
) -> None:
    files, cache = example_files(tmp_path, count=10), tmp_path / "lengths.json"
    first = Batches(stage(files), codec, seed=0, cache=cache).source
    assert isinstance(first, Epochs)
    doctored = cache.read_text("utf-8").replace(f"[{first.lengths[0]}", "[77")
    cache.write_text(doctored, "utf-8")
    assert Batches(stage(files), codec, seed=0, cache=cache).source.lengths[0] == 77  # type: ignore[union-attr]
    files = example_files(tmp_path, count=11)
    assert Batches(stage(files), codec, seed=0, cache=cache).source.lengths[0] != 77  # type: ignore[union-attr]
    cache.write_text("{", "utf-8")
    assert Batches(stage(files), codec, seed=0, cache=cache).source.lengths[0] != 77  # type: ignore[union-attr]


def test_work_counts_what_sees_what(tmp_path: Path, codec: PromptCodec) -> None:
    batches = Batches(stage(example_files(tmp_path)), codec, seed=0)
    batch = batches[0]
    work = batch[WORK]
    assert work.predicted == int((batch["shift_labels"] != -100).sum())
    pairs = tokens = 0
    for _, encoded in batches.source.fill(0, random.Random(0)):
        reads = encoded.graph.reads()
        owner = encoded.graph.token_segments()
        tokens += len(owner)
        pairs += sum(
            reads[a][b] or (a == b and i >= j)
            for i, a in enumerate(owner)
            for j, b in enumerate(owner)
        )
    assert (work.tokens, work.pairs) == (tokens, pairs)


def _of_length(example: Example, _: random.Random) -> EncodedExample:
    """Stands for a tokenizer: an example is as long as its question says."""
    return EncodedExample(ThoughtGraph.parallel(int(example.question), []), ((),), ((),))


@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=60), seed=st.integers(0, 3))
def test_batches_hold_all_examples_and_no_more_than_they_may(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "lengths.jsonl"
    write_examples(file, [Example(str(n), (PathText("x"),)) for n in lengths])
    source = Epochs(
        dataclasses.replace(stage([str(file)]), batch_tokens=100), seed, _of_length, None, print
    )
    batches = [
        [int(example.question) for example, _ in source.fill(i, random.Random(0))]
        for i in range(source.epoch_batches())
    ]
    assert Counter(n for batch in batches for n in batch) == Counter(lengths)
    assert all(sum(batch) <= 100 or len(batch) == 1 for batch in batches)


def test_only_numbers_of_paths_that_were_asked_for_are_taken(
    tmp_path: Path, codec: PromptCodec
) -> None:
    files = example_files(tmp_path, paths=(1, 2, 3))
    batches = Batches(stage(files, data={"paths": [2, 3]}), codec, seed=0)
    counts = {len(e.paths) for i in range(len(batches)) for e in batches.examples(i)}
    assert counts == {2, 3}


def test_a_row_may_mix_numbers_of_paths(tmp_path: Path, codec: PromptCodec) -> None:
    batches = Batches(stage(example_files(tmp_path), batch_tokens=2000), codec, seed=0)
    assert len(batches) == 1
    kinds: Callable[[EncodedExample], int] = lambda e: sum(  # noqa: E731
        s.kind is Kind.PATH for s in e.graph.segments
    )
    assert {kinds(e) for _, e in batches.source.fill(0, random.Random(0))} == {1, 2, 3}
    assert batches[0]["input_ids"].shape[0] == 1


def test_a_forced_beginning_that_the_summary_has_already_is_there_once(
    tmp_path: Path, codec: PromptCodec
) -> None:
    file = tmp_path / "examples.jsonl"
    texts = ("It follows that: 4", "4")
    write_examples(file, [Example("2 + 2?", (PathText("4"),), text) for text in texts])
    batches = Batches(stage([str(file)]), codec, seed=0, summary_prefix="It follows that:")
    written = {
        codec.decode(encoded.tokens[-1])
        for i in range(len(batches))
        for _, encoded in batches.source.fill(i, random.Random(0))
    }
    assert written == {"It follows that: 4", "It follows that:4"}
