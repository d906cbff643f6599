"""How many threads compute if nobody says."""

from __future__ import annotations

import pytest

from parathinker.processors import default_threads, usable_processors


@pytest.mark.parametrize(
    ("said", "threads"),
    [("3", 3), (" 5,2", 5), ("", None), ("0", None), ("-1", None), ("many", None)],
)
def test_threads_are_what_openmp_is_told_or_one_for_each_processor(
    monkeypatch: pytest.MonkeyPatch, said: str, threads: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert default_threads() == (threads or usable_processors())
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert default_threads() == usable_processors()
