"""How many paths and questions vLLM is given at a time; vLLM is not needed for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from parathinker import CapacityError
from parathinker.backends.vllm.limits import Limits
from parathinker.backends.vllm.seats import Seats
from parathinker.engine.request import AutoWidth, EngineRequest, Growth

LIMITS = Limits(context=1000, blocks=64, block_tokens=32, bytes_per_token=1, ranks=1, seats=4)


def request(paths: int) -> EngineRequest:
    growth = Growth(8, 0, 1.0)
    return EngineRequest(
        prompt=(1, 2),
        thought_ids=tuple(range(1, paths + 1)),
        paths_to_finish=paths,
        path=growth,
        summary=growth,
        budget=None,
        summary_prefix=(),
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
    )


class Questions:
    """Takes seats, and notes who sits."""

    def __init__(self, seats: int) -> None:
        self.seats, self.sitting, self.most, self.order = Seats(seats), 0, 0, list[int]()

    async def ask(self, number: int, paths: int, seconds: float = 0.01) -> None:
        async with self.seats.taken(paths) as taken:
            self.order.append(number)
            self.sitting += paths
            self.most = max(self.most, self.sitting)
            try:
                await asyncio.sleep(seconds)
                # Its summary needs one.
                self.sitting -= paths - 1
                taken.keep(1)
                paths = 1
                await asyncio.sleep(seconds)
            finally:
                self.sitting -= paths


def test_questions_come_in_one_after_another_when_all_of_their_paths_have_a_seat():
    async def run():
        questions = Questions(8)
        widths = (3, 8, 1, 5, 2, 8, 4, 4)
        await asyncio.gather(*(questions.ask(i, paths) for i, paths in enumerate(widths)))
        assert questions.order == list(range(len(widths)))
        assert questions.most <= 8
        assert questions.seats._free == 8

    asyncio.run(run())


def test_who_leaves_in_front_lets_those_behind_come_in():
    async def run():
        questions = Questions(4)
        first = asyncio.ensure_future(questions.ask(0, 3, seconds=60))
        wide = asyncio.ensure_future(questions.ask(1, 4))
        narrow = asyncio.ensure_future(questions.ask(2, 1))
        await asyncio.sleep(0.01)
        assert questions.order == [0]
        wide.cancel()
        await narrow
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        assert questions.seats._free == 4

    asyncio.run(run())


@pytest.mark.parametrize("when", [0, 1, 2, 3])
def test_no_seat_is_lost_with_who_leaves_as_it_is_called_in(when):
    async def run():
        seats = Seats(2)

        async def ask():
            async with seats.taken(2):
                await asyncio.sleep(60)

        first, second = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
        await asyncio.sleep(0.01)
        first.cancel()
        for _ in range(when):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert seats._free == 2

    asyncio.run(run())


def test_more_paths_than_seats_are_refused_by_name():
    LIMITS.check(request(4))
    with pytest.raises(CapacityError, match=r"5 paths.*4 sequences.*max_num_seqs"):
        LIMITS.check(request(5))
    # A wave at a time, or paths that are only read, get along with fewer.
    waves = AutoWidth(wave=3, agree=lambda bodies: True)
    assert LIMITS.seats_for(replace(request(8), auto=waves)) == 3
    LIMITS.check(replace(request(8), auto=waves))
    given = replace(request(8), given_paths=((3,),) * 8)
    LIMITS.check(given)
    assert LIMITS.seats_for(given) == 4
