"""Who keeps which blocks, step by step, against a pool of blocks and requests as vLLM has them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from parathinker.backends.vllm.layout import Piece
from parathinker.backends.vllm.orders import Order
from parathinker.backends.vllm.sharing import Sharing

SIZE = 16
NOTHING = {"groups": 0, "requests": 0, "contexts": 0, "lost": 0}


class Pool:
    """vLLM's block pool: counts who holds a block."""

    def __init__(self, count):
        self.blocks = [SimpleNamespace(block_id=i, ref_cnt=0) for i in range(count)]

    def touch(self, blocks):
        for block in blocks:
            block.ref_cnt += 1

    def free_blocks(self, blocks):
        for block in blocks:
            assert block.ref_cnt > 0
            block.ref_cnt -= 1

    @property
    def held(self):
        return sum(block.ref_cnt for block in self.blocks)


class Requests:
    """Groups of one stored path each, and whoever waits behind them."""

    def __init__(self, blocks):
        self.pool = Pool(blocks)
        self.sharing = Sharing(
            SIZE, lambda r: r.status == "waiting", lambda r: r.status == "running", 600.0
        )
        self.sharing.pool = self.pool

    def add(self, name, order, tokens=SIZE + 1):
        request = SimpleNamespace(
            request_id=name,
            kv_transfer_params=order.to_params(),
            num_tokens=tokens,
            num_computed_tokens=0,
            max_tokens=1,
            block_hashes=[],
            update_block_hashes=lambda: None,
            status="waiting",
        )
        self.sharing.on_new_request(request)
        return request

    def end(self, request, blocks=()):
        request.num_computed_tokens = request.num_tokens - 1 if blocks else 0
        request.status = "finished"
        return self.sharing.request_finished(request, list(blocks))

    def store(self, group, *blocks):
        """A path of the group ran and ended."""
        tokens = len(blocks) * SIZE + 1
        self.end(self.add(f"{group}-path", Order(group, keep="1.1"), tokens), blocks)

    def release(self, group):
        self.end(self.add(f"{group}-end", Order(group, release=True)))


def test_full_memory_takes_from_one_group_and_sees_whether_that_is_enough():
    vllm = Requests(8)
    vllm.store("old", 0, 1)
    vllm.store("young", 2, 3)
    waiting = vllm.add("waits", Order("old", pieces=(Piece("1.1", 0, 2 * SIZE),)), 2 * SIZE + 1)
    first = vllm.sharing.step(0)
    assert [blocks for _, blocks in first.spills] == [[2, 3]]
    # The copy to the host runs with this step, so the blocks come back with the next one.
    assert vllm.pool.held == 4
    assert not vllm.sharing.step(0).spills
    assert vllm.pool.held == 2
    # It was not enough.
    assert len(vllm.sharing.step(0).spills) == 1
    vllm.sharing.step(0)
    assert vllm.pool.held == 0
    waiting.status = "running"
    assert not vllm.sharing.step(1).spills


def test_nothing_is_taken_while_somebody_runs():
    vllm = Requests(8)
    vllm.store("a", 0, 1)
    vllm.add("waits", Order("b"))
    running = vllm.add("runs", Order("c"))
    running.status = "running"
    assert not vllm.sharing.step(0).spills


@pytest.mark.parametrize("spilled", [False, True])
def test_a_group_that_is_released_leaves_nothing_behind(spilled):
    vllm = Requests(8)
    vllm.store("a", 0, 1)
    if spilled:
        waiting = vllm.add("waits", Order("b"))
        numbers = [number for number, _ in vllm.sharing.step(0).spills]
        assert numbers
        vllm.sharing.step(0)
        vllm.end(waiting)
        vllm.release("b")
    late = vllm.add("late", Order("a", pieces=(Piece("1.1", 0, 2 * SIZE),)), 2 * SIZE + 1)
    vllm.release("a")
    vllm.end(late)
    drops = vllm.sharing.step(0).drops
    assert drops == (numbers if spilled else [])
    assert vllm.sharing.held() == NOTHING
    assert vllm.pool.held == 0


def test_who_asks_for_what_is_gone_is_told_and_forgotten():
    vllm = Requests(8)
    lost = vllm.add("late", Order("a", pieces=(Piece("1.1", 0, SIZE),)))
    assert lost.max_tokens == 1
    assert vllm.end(lost, (0, 1))
    vllm.release("a")
    assert vllm.sharing.held() == NOTHING
    assert vllm.pool.held == 0
