"""A diagnosis at work: items in order, and an end that leaves nothing running."""

from __future__ import annotations

import asyncio

import pytest

from parathinker.diagnostics.session import _each


def test_results_come_in_the_order_of_the_items_and_progress_counts_them() -> None:
    async def measure(item: int) -> int:
        await asyncio.sleep(0.01 * (item % 3))
        return item**2

    seen: list[tuple[str, int, int]] = []
    found = asyncio.run(_each("squares", range(40), measure, lambda *now: seen.append(now)))
    assert found == [item**2 for item in range(40)]
    assert seen == [("squares", done, 40) for done in range(41)]


def test_the_first_failure_stops_the_others() -> None:
    finished = []

    async def measure(item: int) -> None:
        if item == 3:
            raise ValueError("item 3")
        await asyncio.sleep(5)
        finished.append(item)

    with pytest.raises(ValueError, match="item 3"):
        asyncio.run(_each("items", range(100), measure, lambda *_: None))
    assert finished == []
