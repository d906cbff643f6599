"""How many threads compute if nobody says, and what is said of processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from parathinker import processors
from parathinker.processors import default_threads, has_bfloat16_units, usable_processors


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


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ("flags\t\t: fpu avx2 fma\n", False),
        ("flags\t\t: fpu avx2 avx512_bf16\n", True),
        ("flags\t\t: avx512f amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\n", False),
        ("bogomips\t: 4800\n", None),
    ],
)
def test_linux_tells_whether_there_are_units_for_bfloat16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, has: bool | None
) -> None:
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(processors, "_FACTS", facts)
    assert has_bfloat16_units() is None
    facts.write_text(f"model name\t: Some CPU\n{said}", "utf-8")
    assert has_bfloat16_units() is has
