"""Control tokens: their names and order, adding them, finding them again by name."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer

from parathinker import CheckpointError, UsageError
from parathinker.tokens import (
    ControlTokens,
    add_control_tokens,
    control_token_names,
    is_control_token,
)
from tiny_models import EOS, byte_tokenizer, fast_tokenizer

PATHS = [f"<{slash}think{i}>" for i in range(1, 9) for slash in ("", "/")]
RELEASED = [*PATHS, "<summary>", "</summary>", "<vllm_pad>"]


@pytest.fixture(params=["tokenizers", "transformers"])
def tokenizer(request):
    plain = byte_tokenizer(EOS)
    return plain if request.param == "tokenizers" else fast_tokenizer(plain)


def encode(tokenizer, text: str) -> list[int]:
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.encode(text, add_special_tokens=False).ids
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_names_come_in_the_released_order():
    assert control_token_names(8) == RELEASED
    assert control_token_names(9)[16:18] == ["<think9>", "</think9>"]
    with pytest.raises(UsageError, match="max_paths must be 1 or more, got 0"):
        control_token_names(0)


@pytest.mark.parametrize("name", [*RELEASED, "<think16>", "</think123>"])
def test_control_tokens_are_known_by_name(name):
    assert is_control_token(name)


@pytest.mark.parametrize(
    "name", ["<think>", "</think>", "<think0>", "<think01>", "<think1> ", "think1", "<Summary>", ""]
)
def test_other_tokens_are_not_mistaken_for_control_tokens(name):
    assert not is_control_token(name)


def test_tokens_are_appended_in_the_released_order(tokenizer):
    before = len(tokenizer.get_vocab())
    control = add_control_tokens(tokenizer)
    vocabulary = tokenizer.get_vocab()
    assert [vocabulary[name] for name in RELEASED] == list(range(before, before + 19))
    assert control.max_paths == 8
    assert control.opens == tuple(vocabulary[f"<think{i}>"] for i in range(1, 9))
    assert control.closes == tuple(vocabulary[f"</think{i}>"] for i in range(1, 9))
    assert (control.summary_open, control.summary_close) == (
        vocabulary["<summary>"],
        vocabulary["</summary>"],
    )
    assert control.pad == vocabulary["<vllm_pad>"]
    assert control.ids == frozenset(vocabulary[name] for name in RELEASED)


def test_each_control_token_is_one_token_of_the_tokenizer(tokenizer):
    control = add_control_tokens(tokenizer)
    assert encode(tokenizer, "<think3>a</think3><summary>") == [
        control.opens[2],
        *encode(tokenizer, "a"),
        control.closes[2],
        control.summary_open,
    ]


def test_adding_twice_changes_nothing(tokenizer):
    first = add_control_tokens(tokenizer)
    vocabulary = tokenizer.get_vocab()
    assert add_control_tokens(tokenizer) == first
    assert add_control_tokens(tokenizer, 4) == first
    assert tokenizer.get_vocab() == vocabulary


def test_more_paths_can_be_added_later_and_old_ids_stay(tokenizer):
    first = add_control_tokens(tokenizer, 8)
    more = add_control_tokens(tokenizer, 16)
    assert more.max_paths == 16
    assert more.opens[:8] == first.opens
    assert more.closes[:8] == first.closes
    assert more.summary_close == first.summary_close
    assert min(more.opens[8:]) > max(first.ids)
    assert len(more.ids) == 35


def test_tokens_are_found_by_name_wherever_they_lie():
    names = control_token_names(3)
    ids = [900, 3, 77, 2, 10**6, 5, 41, 42, 8]
    control = ControlTokens.find(dict(zip(names, ids, strict=True)))
    assert control == ControlTokens((900, 77, 10**6), (3, 2, 5), 41, 42, 8)


def test_a_vocabulary_may_lack_the_pad_token():
    names = control_token_names(2)[:-1]
    control = ControlTokens.find({name: i for i, name in enumerate(names)})
    assert control.pad is None
    assert len(control.ids) == 6


def test_a_tokenizer_without_control_tokens_is_refused_with_advice(tokenizer):
    with pytest.raises(CheckpointError) as caught:
        ControlTokens.find(tokenizer.get_vocab(), "some/folder")
    for part in (
        "some/folder",
        "<think1>",
        "<summary>",
        "</summary>",
        "parathinker models prepare",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "absent", ["<think1>", "</think1>", "</think2>", "<summary>", "</summary>"]
)
def test_a_partial_set_is_refused_and_what_is_absent_is_named(absent):
    names = [name for name in control_token_names(2) if name != absent]
    with pytest.raises(CheckpointError, match=absent):
        ControlTokens.find({name: i for i, name in enumerate(names)})


def test_a_partial_set_can_be_completed():
    tokenizer = byte_tokenizer(EOS)
    tokenizer.add_special_tokens(["<think1>", "<summary>"])
    control = add_control_tokens(tokenizer, 2)
    assert control.opens[0] < control.summary_open < control.closes[0]
    assert control.max_paths == 2


def test_tokens_that_are_there_but_not_special_are_used_as_they_are(tokenizer):
    added = [AddedToken(name, special=False) for name in control_token_names(2)]
    tokenizer.add_tokens(added)
    vocabulary = tokenizer.get_vocab()
    control = add_control_tokens(tokenizer, 2)
    assert tokenizer.get_vocab() == vocabulary
    assert control.opens == (vocabulary["<think1>"], vocabulary["<think2>"])
