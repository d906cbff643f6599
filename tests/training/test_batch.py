"""Examples become graphs and batches as the released training does it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from parathinker.data.schema import Example, PathText
from parathinker.errors import UsageError
from parathinker.graph import Kind
from parathinker.prompt import PromptCodec
from parathinker.training.batch import AGAIN, IGNORED, encode_example, pack

EXAMPLE = Example("2 + 2?", (PathText("2, 3, 4"), PathText("five", learn=False)), "so 4")


@pytest.fixture(scope="module")
def codec(tiny_random_model: Path) -> PromptCodec:
    return PromptCodec.from_folder(tiny_random_model)


def test_paths_open_and_close_with_the_tokens_of_their_thought_id(codec: PromptCodec) -> None:
    encoded = encode_example(EXAMPLE, codec, random.Random(0))
    for segment, tokens in zip(encoded.graph.segments, encoded.tokens, strict=True):
        if segment.kind is Kind.PATH:
            assert tokens[0] == codec.control.opens[segment.thought_id - 1]
            assert tokens[-1] == codec.control.closes[segment.thought_id - 1]
    assert encoded.tokens[-1][0] == codec.control.summary_open
    assert encoded.tokens[-1][-1] == codec.control.summary_close


def test_the_loss_covers_what_the_model_writes_itself_and_never_crosses_segments(
    codec: PromptCodec,
) -> None:
    encoded = encode_example(EXAMPLE, codec, random.Random(0), summary_prefix="hence ")
    prompt, good, flawed, summary = encoded.labels
    assert set(prompt) == {IGNORED}
    assert set(flawed) == {IGNORED}
    assert good == (*encoded.tokens[1][1:], IGNORED)
    forced = 1 + len(codec.encode_text("hence "))
    assert summary == (*[IGNORED] * (forced - 1), *encoded.tokens[3][forced:], IGNORED)


def test_the_loss_leaves_out_the_beginning_that_a_path_is_given(codec: PromptCodec) -> None:
    example = Example("2 + 2?", (PathText("2, 3, five", given=6),))
    for chain in (False, True):
        (_, tokens), (_, labels) = (
            getattr(encode_example(example, codec, random.Random(0), chain=chain), name)
            for name in ("tokens", "labels")
        )
        assert tokens[1:-1] == (*codec.encode_text("2, 3, "), *codec.encode_text("five"))
        given = 1 + len(codec.encode_text("2, 3, "))
        assert labels == (*[IGNORED] * (given - 1), *tokens[given:], IGNORED)


def test_thought_ids_are_drawn_at_random_out_of_all_that_exist(codec: PromptCodec) -> None:
    rng = random.Random(1)
    drawn = [
        tuple(s.thought_id for s in encode_example(EXAMPLE, codec, rng).graph.segments[1:3])
        for _ in range(200)
    ]
    assert all(a != b for a, b in drawn)
    assert {i for pair in drawn for i in pair} == set(range(1, codec.control.max_paths + 1))
    assert any(a > b for a, b in drawn)


def test_a_path_keeps_its_own_thought_id(codec: PromptCodec) -> None:
    paths = (PathText("a"), PathText("b", thought_id=2), PathText("c"))
    rng = random.Random(2)
    for _ in range(50):
        segments = encode_example(Example("?", paths), codec, rng).graph.segments
        ids = [s.thought_id for s in segments[1:]]
        assert ids[1] == 2
        assert len(set(ids)) == 3


@pytest.mark.parametrize("ids", [(2, 2), (1, 1000)])
def test_a_thought_id_twice_or_beyond_the_vocabulary_is_refused(
    codec: PromptCodec, ids: tuple[int, int]
) -> None:
    paths = tuple(PathText("a", thought_id=i) for i in ids)
    with pytest.raises(UsageError, match="thought ids should be different and at most"):
        encode_example(Example("?", paths), codec, random.Random(0))


def test_one_set_of_paths_is_read_in_many_ways(codec: PromptCodec) -> None:
    paths = tuple(map(PathText, "abc"))
    readings = ((0, 2), (1,), (2, 1, 0))
    example = Example("?", paths, "so", readings=readings)
    encoded = encode_example(example, codec, random.Random(0))
    summaries = [s for s in encoded.graph.segments if s.kind is Kind.SUMMARY]
    assert [s.parents for s in summaries] == [(0, 1, 3), (0, 2), (0, 1, 2, 3)]
    assert encoded.tokens[-1] == encoded.tokens[-2] == encoded.tokens[-3]
    assert encoded.labels[-1] == encoded.labels[-3]
    chain = encode_example(example, codec, random.Random(0), chain=True)
    assert [s.kind for s in chain.graph.segments] == [Kind.PROMPT, Kind.PATH, Kind.SUMMARY]


def test_summaries_can_weigh_more_than_paths(codec: PromptCodec) -> None:
    encoded = encode_example(EXAMPLE, codec, random.Random(0))
    batch = pack([encoded], pad_id=0, summary_weight=7.0)
    weights, labels = batch["loss_weights"], batch["shift_labels"]
    summary = sum(x != IGNORED for x in encoded.labels[-1])
    paths = sum(x != IGNORED for s in encoded.labels[:-1] for x in s)
    assert float(weights[labels != IGNORED].sum()) == paths + 7.0 * summary  # type: ignore[index]


def test_more_paths_than_control_tokens_are_refused(codec: PromptCodec) -> None:
    many = Example("q", tuple(PathText("x") for _ in range(codec.control.max_paths + 1)), None)
    with pytest.raises(UsageError, match="this model has"):
        encode_example(many, codec, random.Random(0))


def test_paths_become_one_chain_in_which_only_what_is_to_be_learned_is(codec: PromptCodec) -> None:
    encoded = encode_example(EXAMPLE, codec, random.Random(0), chain=True)
    prompt, path, summary = encoded.graph.segments
    assert (path.kind, path.thought_id, summary.kind) == (Kind.PATH, 1, Kind.SUMMARY)
    good, again, flawed = (codec.encode_text(text) for text in ("2, 3, 4", AGAIN, "five"))
    opening, closing = codec.control.opens[0], codec.control.closes[0]
    assert encoded.tokens[1] == (opening, *good, *again, *flawed, closing)
    ignored = (IGNORED,) * len(flawed)
    assert encoded.labels[1] == (*good, *again, *ignored, closing, IGNORED)
    assert encoded.graph.positions()[-1] == prompt.length + path.length + summary.length - 1


def test_a_chain_begins_as_its_first_path_does(codec: PromptCodec) -> None:
    paths = (PathText("4", thought_id=3), PathText("5", thought_id=2))
    chain = encode_example(Example("2 + 2?", paths, "4"), codec, random.Random(0), chain=True)
    assert chain.graph.segments[1].thought_id == 3
    assert chain.tokens[1][0] == codec.control.opens[2]


def test_a_chain_may_have_more_paths_than_there_are_control_tokens(codec: PromptCodec) -> None:
    many = Example("2 + 2?", (PathText("4"),) * (codec.control.max_paths + 1), "4")
    assert len(encode_example(many, codec, random.Random(0), chain=True).graph.segments) == 3
