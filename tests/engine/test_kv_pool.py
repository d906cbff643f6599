"""Blocks of KV memory: taken, shared, kept, given away in the right order, never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parathinker.engine import kv_pool, memory
from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.engine.kv_pool import KVPool, bytes_per_token
from parathinker.engine.memory import kv_blocks, memory_of
from parathinker.errors import UsageError
from parathinker.modeling.config import DecoderConfig

CPU = torch.device("cpu")
CONFIG = DecoderConfig.from_dict(
    {
        "model_type": "llama",
        "vocab_size": 10,
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
)
BLOCK_BYTES = BLOCK_TOKENS * 2 * 2 * 2 * 8 * 4
"""Keys and values, 2 layers, 2 kv heads of 8, float32."""


def pool(blocks: int) -> KVPool:
    return KVPool(CONFIG, blocks, CPU, torch.float32)


def test_where_memory_is_short_kept_blocks_are_used_again_before_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_pool, "LOOK_EVERY", 1)  # looks every time
    short = False
    kv = KVPool(CONFIG, 8, CPU, torch.float32, lambda: short)
    first, second = kv.take(2)
    kv.publish(first, b"first")
    kv.release([first])
    assert kv.take(1) == [2]
    short = True
    assert kv.take(1) == [first]
    assert kv.find(b"first") is None
    assert kv.take(1) == [3]  # nothing is kept, and requests are to be served
    kv.publish(second, b"second")
    kv.release([second])
    short = False
    assert kv.take(1) == [4]
    assert kv.find(b"second") == second


def test_how_short_memory_is_is_read_off_the_machine_or_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert not memory.is_short(CPU)  # nobody says
    whole = memory_of(CPU)
    for share, short in ((0.2, False), (0.1, True)):
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {int(whole * share) >> 10} kB\n")
        assert memory.is_short(CPU) == short
    meminfo.write_text(f"MemAvailable: {whole >> 10} kB\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    for used, short in ((500_000, False), (900_000, True)):
        (tmp_path / "memory.stat").write_text(f"anon {used}\nfile 77\n")
        assert memory.is_short(CPU) == short
    assert memory_of(CPU) == 1_000_000


def test_blocks_are_taken_all_or_none():
    kv = pool(3)
    first = kv.take(2)
    assert len(set(first)) == 2
    assert kv.take(2) is None
    assert kv.available == 1
    kv.release(first)
    assert sorted(kv.take(3)) == [0, 1, 2]
    assert kv.take(0) == []


def test_a_block_with_a_name_is_kept_until_memory_is_asked_for_and_the_oldest_goes_first():
    kv = pool(4)
    a, b, c = ([kv.take(1)[0]] for _ in range(3))
    for blocks, name in ((a, b"a"), (b, b"b"), (c, b"c")):
        kv.publish(blocks[0], name)
    kv.release(b)
    kv.release(a)
    kv.release(c)
    assert kv.available == 4
    assert kv.find(b"b") == b[0]  # used again: now the youngest
    kv.release(b)
    kv.take(2)  # the one never used, then a's
    assert kv.find(b"a") is None
    assert kv.find(b"c") == c[0]
    assert kv.find(b"b") == b[0]


def test_of_one_segments_blocks_the_last_are_given_away_first():
    kv = pool(3)
    blocks = kv.take(3)
    for number, block in enumerate(blocks):
        kv.publish(block, b"%d" % number)
    kv.release(blocks)
    kv.take(1)
    assert [kv.find(b"%d" % number) is not None for number in range(3)] == [True, True, False]


def test_a_shared_block_is_free_when_its_last_user_has_gone():
    kv = pool(1)
    [block] = kv.take(1)
    kv.publish(block, b"x")
    assert kv.find(b"x") == block
    kv.release([block])
    assert kv.available == 0
    assert kv.usage(0).in_use == BLOCK_BYTES
    kv.release([block])
    assert kv.available == 1
    assert (kv.usage(0).in_use, kv.usage(0).kept) == (0, BLOCK_BYTES)
    kv.forget()
    assert kv.usage(0).kept == 0
    assert kv.find(b"x") is None


@pytest.mark.parametrize("way", ["discard", "doubtful"])
@pytest.mark.parametrize("named", [True, False])
def test_nan_in_a_released_block_is_gone_before_the_next_one_writes_there(way, named):
    kv = pool(1)
    [block] = kv.take(1)
    if named:
        kv.publish(block, b"x")
        kv.find(b"x")
        kv.release([block], **{way: True})  # another one still uses it
    kv.keys_LBKDT[:, block] = torch.nan
    kv.values_LBKTD[:, block] = torch.nan
    kv.release([block], **({} if named else {way: True}))
    assert (kv.find(b"x") is None) == (way == "discard" or not named)
    if kv.available == 0:
        kv.release([block])
    assert kv.take(1) == [block]
    assert kv.keys_LBKDT.eq(0).all()
    assert kv.values_LBKTD.eq(0).all()


def test_the_first_to_name_its_contents_wins():
    kv = pool(2)
    a, b = kv.take(2)
    kv.publish(a, b"x")
    kv.publish(b, b"x")
    kv.publish(a, b"y")
    kv.release([a, b])
    assert kv.find(b"x") == a
    assert kv.find(b"y") is None
    assert kv.usage(0).kept == 0


@given(st.lists(st.tuples(st.sampled_from("tfrpx"), st.integers(0, 9)), max_size=60))
def test_no_block_is_ever_lost_or_given_to_two(steps):
    kv = pool(5)
    held: list[int] = []  # a block stands here once for each of its users
    names = [b"%d" % i for i in range(4)]
    for action, number in steps:
        if action == "t":
            taken = kv.take(number % 3)
            assert (taken is None) == (number % 3 > 5 - len(set(held)))
            assert not set(taken or ()) & set(held)
            held += taken or ()
        elif action == "f":
            found = kv.find(names[number % 4])
            held += [] if found is None else [found]
        elif action == "r" and held:
            kv.release([held.pop(number % len(held))], discard=number == 9)
        elif action == "p" and held:
            kv.publish(held[number % len(held)], names[number % 4])
        elif action == "x" and number == 0:
            kv.forget()
        usage = kv.usage(0)
        assert usage.in_use == len(set(held)) * BLOCK_BYTES
        assert usage.in_use + usage.kept <= usage.capacity == 5 * BLOCK_BYTES
        assert kv.available == 5 - len(set(held))
    kv.release(held)
    assert len(kv.take(5)) == 5


@pytest.mark.parametrize(
    ("wanted", "blocks"),
    [
        (BLOCK_BYTES, 1),
        (3 * BLOCK_BYTES - 1, 2),
        ("64KiB", 2**16 // BLOCK_BYTES),
        ("64 kb", 2**16 // BLOCK_BYTES),
        ("1.5M", 3 * 2**19 // BLOCK_BYTES),
        (str(BLOCK_BYTES), 1),
        (1.0, memory_of(CPU) // BLOCK_BYTES),
        ("0.5", memory_of(CPU) // 2 // BLOCK_BYTES),
        (None, memory_of(CPU) // 4 // BLOCK_BYTES),
    ],
)
def test_memory_is_asked_for_in_bytes_or_texts_or_shares(wanted, blocks):
    assert bytes_per_token(CONFIG, torch.float32) * BLOCK_TOKENS == BLOCK_BYTES
    assert kv_blocks(wanted, CONFIG, CPU, torch.float32) == blocks


@pytest.mark.parametrize("wanted", ["", "much", "-1", "1XB", 0.0, 1.5, -3.0, True, [1], "1 2"])
def test_memory_that_is_no_size_is_refused(wanted):
    with pytest.raises(UsageError, match="kv_cache_memory should be bytes, a size"):
        kv_blocks(wanted, CONFIG, CPU, torch.float32)


@pytest.mark.parametrize("wanted", [0, -5, BLOCK_BYTES - 1, "1K"])
def test_memory_for_less_than_a_block_is_refused_with_the_figures(wanted):
    with pytest.raises(UsageError, match=rf"a block of 8 tokens .* takes {BLOCK_BYTES}"):
        kv_blocks(wanted, CONFIG, CPU, torch.float32)
