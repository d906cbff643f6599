"""Every section runs on a small model, and what it finds can be shown, written and read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from parathinker import ParaThinkerError, UsageError
from parathinker.bench import report, suite
from parathinker.bench.figures import Section
from parathinker.bench.setting import QUICK, Bench, BenchOptions
from parathinker.bench.targets import TARGETS
from parathinker.engine.native import library

SMALL = dataclasses.replace(
    QUICK,
    path=6,
    summary=3,
    lengths=(12, 20),
    long=24,
    fresh=4,
    requests=2,
    text=120,
    problems=2,
    read=2**20,
    side=64,
)
FAST = ("machine", "steps", "job", "summary", "long", "throughput")
TASK = ("precision", "adaptive")
"""These have the embedded model work, which takes longer."""


def small_bench(model: Path, **options: object) -> Bench:
    bench = Bench(BenchOptions(model=str(model), **options))
    bench.sizes = dataclasses.replace(SMALL, repeats=bench.sizes.repeats)
    return bench


@pytest.fixture(scope="module")
def bench(tiny_random_model: Path) -> Bench:
    return small_bench(tiny_random_model, quick=True, only=FAST)


@pytest.fixture(scope="module")
def sections(bench: Bench) -> dict[str, Section]:
    return {section.name: section for section in suite.run(bench)}


def test_every_section_has_something_to_show(sections: dict[str, Section]) -> None:
    assert list(sections) == list(FAST)
    for section in sections.values():
        assert section.left_out is None
        assert section.rows
        assert section.seconds > 0
        keys = {column.key for column in section.columns}
        for row in section.rows:
            assert set(row) <= keys


def test_steps_and_jobs_are_measured_at_every_number_of_paths(
    bench: Bench, sections: dict[str, Section]
) -> None:
    assert bench.paths == (1, 4, 8)  # the model has eight
    for name in ("steps", "job"):
        assert [row["paths"] for row in sections[name].rows] == [1, 4, 8]
    for row in sections["steps"].rows:
        assert row["step_ms"].count == bench.sizes.repeats
        assert row["step_ms"].least > 0
        assert row["roofline_ms"].least > 0
    for row in sections["job"].rows:
        parts = sum(row[part].least for part in ("prefill_s", "think_s", "summary_s"))
        assert parts <= row["total_s"].most + 1e-6
    assert sections["steps"].rows[0]["over_one_path"].median == 1.0


def test_a_flat_text_holds_prompt_paths_and_summary_opening(
    bench: Bench, sections: dict[str, Section]
) -> None:
    rows = sections["summary"].rows
    assert [row["path_tokens"] for row in rows] == [12, 20]
    # Each path has its opening token beside the ones that are counted.
    assert [row["refill_tokens"] for row in rows] == [64 + 8 * 13 + 1, 64 + 8 * 21 + 1]


def test_targets_come_from_one_table(sections: dict[str, Section]) -> None:
    verdicts = [verdict for section in sections.values() for verdict in section.verdicts]
    assert {"step", "summary_ttft", "long", "throughput"} <= {v.name for v in verdicts}
    for verdict in verdicts:
        assert verdict.limit == TARGETS[verdict.name].limit
        # These weights fit into any cache, so the roofline is no measure.
        assert (verdict.met is None) == bool(verdict.why)
        if verdict.name in ("step", "long"):
            assert verdict.met is None


def test_report_has_all_of_it(bench: Bench, sections: dict[str, Section], tmp_path: Path) -> None:
    found = list(sections.values())
    text = report.write_report(bench, found, tmp_path).read_text("utf-8")
    for section in found:
        assert f"## {section.title}" in text
    written = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert [section["name"] for section in written["sections"]] == list(FAST)
    for name in ("steps", "job", "summary"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in text


def test_what_does_not_fit_the_context_is_left_out_and_said(random_model, tmp_path: Path) -> None:
    model = random_model("llama", max_position_embeddings=90)
    bench = small_bench(model, quick=True, only=("summary", "long", "machine"))
    bench.sizes = dataclasses.replace(bench.sizes, lengths=(10, 200), long=200)
    machine, summary, long = suite.run(bench)
    assert machine.left_out is None
    assert [row["path_tokens"] for row in summary.rows] == [10]
    assert any("takes a context of" in note for note in summary.notes)
    assert "this model has 90" in str(long.left_out)
    assert "Left out: a prompt of 200 tokens" in report.markdown(
        report.document(bench, [long]), [long], {}
    )


@pytest.mark.slow
def test_formats_and_widths_are_compared_on_the_embedded_models_task(
    tiny_random_model: Path, tmp_path: Path
) -> None:
    bench = small_bench(tiny_random_model, quick=True, only=TASK)
    precision, adaptive = suite.run(bench)
    measured = {row["what"]: row["int8"] for row in precision.rows}
    if measured["perplexity"] is None:
        assert any("no int8 here" in note for note in precision.notes)
    else:
        assert library.available()
        assert measured["|difference of a logprob|, largest"] > 0
    rows = {row["paths"]: row for row in adaptive.rows}
    assert [rows[width]["mean_paths"].mean for width in (2, 4, 8)] == [2, 4, 8]
    assert 2 <= rows["auto"]["mean_paths"].mean <= 8
    assert rows["auto"]["tokens"].mean <= rows[8]["tokens"].mean
    report.write_report(bench, [precision, adaptive], tmp_path)
    assert (tmp_path / "adaptive.png").is_file()


@pytest.mark.slow
def test_a_new_process_is_timed_to_its_first_token(tiny_random_model: Path) -> None:
    (section,) = suite.run(small_bench(tiny_random_model, quick=True, only=("start",)))
    assert [row["model"] for row in section.rows] == [tiny_random_model.name, "tiny"]
    for row in section.rows:
        parts = [row[key].median for key in ("import_s", "load_s", "first_token_s")]
        assert 0 < sum(parts) < row["total_s"].median
    assert [v.name for v in section.verdicts] == ["start_model", "start_embedded"]


def test_a_process_that_fails_says_why(tiny_random_model: Path, monkeypatch) -> None:
    bench = small_bench(tiny_random_model, quick=True, only=("start",))
    monkeypatch.setattr("parathinker.bench.start._PROGRAM", "raise SystemExit('no such thing')")
    (section,) = suite.run(bench)
    assert "failed: no such thing" in str(section.left_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paths": (1, 9)}, "from 1 to 8 for this model; got 9"),
        ({"paths": (0,)}, "from 1 to 8 for this model; got 0"),
        ({"repeats": 0}, "repeats should be a whole number from 1"),
        ({"weights": "int4"}, "weights should be one of auto, float32, int8"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(
    tiny_random_model: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Bench(BenchOptions(model=str(tiny_random_model), **options))


def test_unknown_models_and_sections_are_refused() -> None:
    with pytest.raises(ParaThinkerError, match="unknown model"):
        Bench(BenchOptions(model="no-such-model"))
    with pytest.raises(UsageError, match=r"sections are machine, .*; got 'speed'"):
        suite.chosen(("steps", "speed"))
    assert suite.chosen(("job", "machine")) == ["machine", "job"]
