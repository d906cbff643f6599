"""``parathinker eval report``: what it writes, prints and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation_runs import full_disk, write_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scores = {"majority": (1.0, 0.0), "parallel": (1.0, 1.0)}
    return write_run(tmp_path / "run", scores, widths=(2,))


def test_the_page_lies_in_the_runs_folder_and_where_is_printed(run: Run, folder: Path) -> None:
    code, output, _ = run("eval", "report", folder)
    assert code == 0
    assert str(folder / "report" / "report.html") in output
    assert (folder / "report" / "report.html").is_file()
    assert (folder / "report" / "report.md").is_file()


def test_json_has_all_tables(run: Run, folder: Path, tmp_path: Path) -> None:
    code, output, _ = run("eval", "report", folder, "--output", tmp_path / "out", "--json")
    assert code == 0
    found = json.loads(output)
    assert found["page"] == str(tmp_path / "out" / "report.html")
    assert all(Path(file).is_file() for file in found["figures"])
    (only,) = found["runs"]
    accuracy = {row["method"]: row["accuracy"]["mean"] for row in only["rows"]}
    assert accuracy == {"majority": 0.5, "parallel": 1.0}
    assert only["paired"][0]["comparison"]["difference"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no-such-folder",), "holds no run of an evaluation"),
        ((), "Missing argument"),
        (("no-such-folder", "--answers", "-1"), "--answers"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, output, errors = run("eval", "report", *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("room", "message"),
    [(20_000, "run.sqlite cannot be opened: "), (40_000, "the report cannot be written to")],
)
def test_a_full_disk_is_said(run: Run, folder: Path, room: int, message: str) -> None:
    with full_disk(room):
        code, output, errors = run("eval", "report", folder)
    assert (code, output) == (1 if "opened" in message else 2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert run("eval", "report", folder)[0] == 0
