"""A run's file: what it takes, what it leaves behind, and what a full disk does to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evaluation_runs import full_disk
from parathinker import ParaThinkerError, UsageError
from parathinker.data.schema import Question
from parathinker.evaluation.store import FILE, RunStore

ASKED = tuple(Question(f"id{i}", f"What is {i}+{i}?", str(2 * i)) for i in range(3))
SEEN = "x" * 50_000


def test_a_question_that_was_changed_is_refused_by_name(tmp_path: Path) -> None:
    changed = Question("other", "What is one plus one, in words?", "2")
    with RunStore(tmp_path, write=True) as store:
        store.take_questions("sums", ASKED)
        with pytest.raises(UsageError) as refused:
            store.take_questions("sums", (ASKED[0], changed, ASKED[2]))
        for part in ("benchmark sums: question 2", "other", "id1", changed.question, "1+1"):
            assert part in str(refused.value)
        assert "new ones behind them, or use another output folder" in str(refused.value)
        assert [question.id for question in store.questions("sums")] == ["id0", "id1", "id2"]
        # Fewer, more, and another benchmark are no change.
        store.take_questions("sums", ASKED[:1])
        store.take_questions("sums", (*ASKED, changed))
        store.take_questions("words", (changed,))


def test_a_run_in_which_nothing_was_noted_leaves_nothing_behind(tmp_path: Path) -> None:
    with RunStore(tmp_path / "a" / "b", write=True):
        pass
    assert list(tmp_path.iterdir()) == []
    with RunStore(tmp_path, write=True) as store:
        store.note("settings", {})
    with RunStore(tmp_path, write=True):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("room", [0, 5_000, 20_000, 45_000])
def test_a_full_disk_at_the_start_is_said_and_leaves_nothing_behind(
    tmp_path: Path, room: int
) -> None:
    with full_disk(room), pytest.raises(ParaThinkerError, match=r"run\.sqlite cannot be written: "):
        RunStore(tmp_path / "run", write=True)
    assert list(tmp_path.iterdir()) == []
    with RunStore(tmp_path / "run", write=True) as store:
        store.note("settings", {})


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("room", [0, 5_000, 20_000])
def test_a_full_disk_on_reopening_is_said_and_loses_nothing(
    tmp_path: Path, write: bool, room: int
) -> None:
    with RunStore(tmp_path, write=True) as store:
        store.note("seen", SEEN)
    with full_disk(room), pytest.raises(ParaThinkerError, match=r"cannot be opened: ") as refused:
        RunStore(tmp_path, write=write)
    assert "is not" not in str(refused.value)
    with RunStore(tmp_path, write=True) as store:
        assert store.fact("seen") == SEEN


def test_what_is_no_run_is_called_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(UsageError, match="is not a run of an evaluation: file is not a database"):
        RunStore(tmp_path)
    (tmp_path / FILE).unlink()
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(UsageError, match="another SQLite database"):
        RunStore(tmp_path)
