"""``parathinker bench``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
FAST = ("--quick", "--repeats", 1, "--paths", "1,2", "--only", "steps", "--only", "job")


def test_json_has_settings_machine_sections_and_targets(run: Run, tiny_random_model: Path) -> None:
    code, output, errors = run("bench", "--model", tiny_random_model, *FAST, "--json")
    assert code == 0
    found = json.loads(output)
    assert found["model"] == str(tiny_random_model)
    assert found["quick"] is True
    assert found["sizes"]["repeats"] == 1
    assert {"processor", "processors", "torch", "python"} <= set(found["machine"])
    assert [section["name"] for section in found["sections"]] == ["steps", "job"]
    for section in found["sections"]:
        assert [row["paths"] for row in section["rows"]] == [1, 2]
        assert section["left_out"] is None
    step = found["sections"][0]["rows"][0]["step_ms"]
    assert set(step) == {"median", "least", "most", "count"}
    for target in found["targets"]:
        assert set(target) == {
            "name", "what", "where", "value", "relation", "limit", "unit", "met", "why",
        }  # fmt: skip
    assert "steps: " in errors  # progress goes where it does not get in JSON's way


def test_tables_end_with_the_targets(run: Run, tiny_random_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bench"
    code, output, errors = run("bench", "--model", tiny_random_model, *FAST, "--output", folder)
    assert code == 0
    assert output.index("A decode step") < output.index("The whole job") < output.index("Targets")
    assert "not judged" in output
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.md", "report.json", "steps.png", "job.png"}
    assert "report.md" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--paths", "one"), "--paths should be numbers with commas between, got 'one'"),
        (("--paths", "1,9"), "from 1 to 8 for this model; got 9"),
        (("--only", "speed"), "sections are machine, steps"),
        (("--weights", "int4"), "weights should be one of auto, float32, int8"),
        (("--repeats", "0"), "equal to 1"),
        (("--device", "abacus"), "'abacus' is unknown or not there"),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, tiny_random_model: Path, options: tuple[str, ...], message: str
) -> None:
    code, output, errors = run("bench", "--model", tiny_random_model, "--quick", *options)
    assert (code, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


def test_a_report_that_cannot_be_written_is_told_before_measuring(
    run: Run, tiny_random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here")
    code, output, errors = run(
        "bench", "--model", tiny_random_model, *FAST, "--output", tmp_path / "file"
    )
    assert (code, output) == (2, "")
    assert "cannot be written to" in errors


def test_an_unknown_model_is_an_error_without_a_traceback(run: Run) -> None:
    code, _, errors = run("bench", "--model", "no-such-model")
    assert code == 1
    assert "unknown model" in errors
