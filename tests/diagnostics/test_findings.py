"""What a diagnosis writes: a report, its numbers, and a plot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from parathinker.diagnostics.axes import doubling_axis
from parathinker.diagnostics.findings import Findings, check_folder, write_report
from parathinker.errors import UsageError
from parathinker.evaluation.plotting import STYLES, error_line
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.statistics import Estimate


def findings() -> Findings:
    """A diagnosis of one question, whose error nobody knows."""

    def plot(axes: object) -> None:
        found = [Estimate(0.5, math.nan, 1), Estimate(1, 0.1, 2)]
        error_line(axes, [8, 16], found, "a line", STYLES[0])  # type: ignore[arg-type]

    return Findings(
        "example",
        "A title",
        ("a|b", "c"),
        [("1", "x*y*z")],
        ["It says so."],
        {"rows": [{"error": math.nan, "mean": 0.5}]},
        plot,
        "A plot",
        "model 1234",
        EvalSettings(),
        {"budgets": (1, 2)},
    )


def test_a_report_has_table_plot_notes_and_numbers(tmp_path: Path) -> None:
    report = write_report(findings(), tmp_path).read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.md", "report.json", "example.png", "example.svg",
    }  # fmt: skip
    assert "| a\\|b | c |" in report
    assert "| 1 | x\\*y\\*z |" in report
    assert "![A plot](example.png)" in report
    assert "- It says so." in report
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert found["diagnosis"] == "example"
    assert found["settings"]["budget"] == 16_384
    assert found["options"] == {"budgets": [1, 2]}


def test_an_unknown_error_is_null_in_json(tmp_path: Path) -> None:
    write_report(findings(), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text("utf-8")
    found = json.loads(text, parse_constant=refuse)
    assert found["rows"] == [{"error": None, "mean": 0.5}]


def test_equal_findings_draw_equal_plots(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(findings(), tmp_path / name)
    one, two = ((tmp_path / name / "example.svg").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--output .* cannot be written to"):
        check_folder(tmp_path / "file" / "folder")


def test_looking_at_a_folder_leaves_it_as_it_was(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "report.md").write_text("of another")
    check_folder(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "of another"


def test_ticks_that_are_close_leave_room_for_their_numbers() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    doubling_axis(axes, [8, 128, 130, 256], "tokens")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["256", "130", "8"]
