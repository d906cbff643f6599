"""A report says what the run found, shows what was written as text only, and needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
import sqlite3
import subprocess
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation_runs import RIGHT, WRONG, write_run
from parathinker import UsageError
from parathinker.evaluation.methods import METHODS
from parathinker.evaluation.report import Report, write_report
from parathinker.evaluation.report.findings import find
from parathinker.evaluation.report.strokes import bands_of, style_of
from parathinker.evaluation.report.text import markdown
from parathinker.evaluation.report.writing import names_of, slugs_of
from parathinker.evaluation.statistics import Estimate
from parathinker.evaluation.store import FILE, Cell, Outcome, RunStore
from parathinker.evaluation.tables import Row

HOSTILE = '</script><img src=x onerror="alert(1)"> & \u2028 "quoted" ${x} {{ 7 * 7 }}'
METHODS_HERE = ("sequential", "majority", "parallel", "parallel:termination=last-finish")


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "every element is closed where it should be"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def answers(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside("script")[0])
        return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Four questions; majority is right on two, native thinking on three."""
    folder = tmp_path_factory.mktemp("runs")
    scores = dict.fromkeys(METHODS_HERE, (1.0, 0.0, 0.0, 1.0))
    scores["parallel"] = (1.0, 1.0, 0.0, 1.0)
    run = write_run(
        folder / "one", scores, question=f"What is {HOSTILE}?", texts=(f"{HOSTILE} {RIGHT}", WRONG),
        left_out=[f"tree: {HOSTILE}"], prompt=f"{HOSTILE.replace('{', '').replace('}', '')}",
    )  # fmt: skip
    return write_report([run], folder / "report")


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.page.read_text("utf-8"))


def test_accuracies_are_those_of_the_run(page: Page, report: Report) -> None:
    # Of 0, 1, 1, 1 the mean is 3/4 and its standard error 1/4; of 0, 0, 1, 1 it is 1/2 ± 1/√12.
    cells = page.inside("td")
    assert cells[: 2 * len(METHODS_HERE)] == [
        *["50.0 ± 28.9"] * 4, *["75.0 ± 25.0"] * 2, *["50.0 ± 28.9"] * 2,
    ]  # fmt: skip
    assert "| parallel | 75.0 ± 25.0 | 75.0 ± 25.0 |" in report.markdown.read_text("utf-8")


def test_tokens_depth_latency_and_budget_stand_in_the_second_table(report: Report) -> None:
    lines = report.markdown.read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("| 2 | parallel | 4 |"))
    # Two paths cut at 10 tokens, a summary of 5, of a budget of 2 × 64; half a second a path.
    assert line == "| 2 | parallel | 4 | 75.0 ± 25.0 | 20 | 5 | 15 | 0 | 1 | ✓ 25 of 128 |"


def test_comparisons_have_an_interval_and_both_p_values(report: Report) -> None:
    lines = report.markdown.read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("| 2 | parallel | majority |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3] == "+25.0 ± 25.0"
    assert re.fullmatch(r"[+−]\d+\.\d to [+−]\d+\.\d", cells[4])
    assert cells[5:] == ["1", "1", "1", "0"]  # one question alone tells nothing


def test_terminations_are_compared_with_native_thinking_and_nothing_twice(report: Report) -> None:
    lines = report.markdown.read_text("utf-8").splitlines()
    last = "| 2 | parallel:termination=last-finish | parallel |"
    (line,) = [line for line in lines if line.startswith(last)]
    assert line.split("|")[4].strip() == "−25.0 ± 25.0"
    assert not any(line.startswith("| 2 | majority | parallel |") for line in lines)
    assert any("from majority, sequential and parallel, on the same" in line for line in lines)


def test_what_was_left_out_and_how_it_was_made_is_said(page: Page) -> None:
    assert f"tree: {HOSTILE}" in page.inside("li")
    facts = page.inside("td")
    assert {"tiny 0123456789abcdef", "rules 1", "torch 2.6, scipy none", "unknown"} <= set(facts)
    assert "1970-01-01 00:00 UTC" in facts


def test_the_page_needs_nothing_but_itself(page: Page, report: Report) -> None:
    text = report.page.read_text("utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/png;base64,"))
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.all("img")) == len(report.figures) / 2


def test_its_policy_lets_its_own_style_and_script_run_and_nothing_else(page: Page) -> None:
    policy = next(m["content"] or "" for m in page.all("meta") if "http-equiv" in m)
    own = page.inside("style")[0], page.inside("script")[-1]
    hashes = [
        "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        for code in own
    ]
    assert policy == (
        f"default-src 'none'; script-src '{hashes[1]}'; style-src '{hashes[0]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_what_models_and_people_wrote_is_text_and_nothing_else(page: Page, report: Report) -> None:
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert all((one["src"] or "").startswith("data:") for one in page.all("img"))
    item = page.answers["items"][0]
    assert item["question"] == f"What is {HOSTILE}? (0)"
    assert item["texts"][0][0]["text"] == f"{HOSTILE} {RIGHT}"
    assert "<img" not in report.markdown.read_text("utf-8")


def test_the_script_never_makes_html_of_text() -> None:
    script = resources.files("parathinker.evaluation.report").joinpath("templates/page.js")
    code = script.read_text("utf-8")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert way not in code
    assert "</" not in code


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_is_valid(tmp_path: Path, page: Page) -> None:
    (tmp_path / "page.js").write_text(page.inside("script")[-1], "utf-8")
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def test_every_picture_is_described_and_every_table_has_headers(page: Page) -> None:
    assert all(len(image["alt"] or "") > 40 for image in page.all("img"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= ids
    assert page.all("html") == [{"lang": "en"}]


def test_figures_are_drawn_as_png_and_svg(report: Report) -> None:
    names = {file.name for file in report.figures}
    kinds = ("accuracy-budget", "accuracy-paths", "latency-paths", "terminations")
    assert names == {f"one-products-{kind}.{end}" for kind in kinds for end in ("png", "svg")}
    for file in report.figures:
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml")
    text = report.markdown.read_text("utf-8")
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (report.markdown.parent / link).is_file()


def test_no_two_methods_look_alike_in_black_and_white() -> None:
    names = list(METHODS)
    looks = [style_of(name, names)[1:] for name in names]
    assert len(set(looks)) == len(looks)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2)), min_size=1, max_size=20))
def test_a_broken_axis_shows_every_point(points: list[tuple[float, float]]) -> None:
    rows = [
        Row("b", "m", 1, Estimate(mean, error, 9), 1, 0, 1, 1, 0, None, 1, 1)
        for mean, error in points
    ]
    bands = bands_of(rows)
    assert len(bands) in (1, 2)
    for mean, error in points:
        assert any(
            low < 100 * (mean - error) and 100 * (mean + error) < high for low, high in bands
        )
    if len(bands) == 2:
        assert bands[0][0] > bands[1][1] or bands[1][0] > bands[0][1]


def test_one_width_is_drawn_as_points_and_untimed_methods_without_latency(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", {"majority": (1.0, 0.0)}, widths=(2,), seconds=None)
    made = write_report([run], tmp_path / "out")
    assert [file.name for file in made.figures] == [
        "r-products-accuracy.png",
        "r-products-accuracy.svg",
    ]
    assert "| 2 | majority | 2 | 50.0 ± 50.0 | 30 | 0 | 20 | 0 | – |" in made.markdown.read_text()


def test_several_benchmarks_stand_side_by_side_at_the_largest_width(tmp_path: Path) -> None:
    write_run(tmp_path, {"majority": (1.0, 0.0), "parallel": (1.0, 1.0)}, benchmark="one")
    write_run(tmp_path, {"majority": (0.0, 0.0)}, widths=(1, 4), benchmark="two", seconds=None)
    made = write_report([tmp_path], tmp_path / "out", answers=0)
    text = made.markdown.read_text("utf-8")
    assert "All benchmarks at P = 4" in text
    table = text.partition("| method | one | two |\n")[2].splitlines()
    assert table[1:3] == ["| majority | – | 0.0 ± 0.0 |", "| parallel | – | – |"]
    page = Page(made.page.read_text("utf-8"))
    assert "All benchmarks at P = 4: accuracy, % ± standard error" in page.inside("caption")


def test_one_benchmark_needs_no_table_of_all(page: Page) -> None:
    assert not any("All benchmarks" in caption for caption in page.inside("caption"))


def test_what_could_not_be_scored_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"majority": (1.0, 0.0)}, widths=(1,))
    with RunStore(run, write=True) as store:
        for text in ("9^9^9", "8^8^8"):
            store.add_score("q0", text, 0.0, "timed out")
        store.add_score("q0", "?", 0.0, "crashed")
        assert find(store, "run", "run").to_dict()["unscored"] == {"crashed": 1, "timed out": 2}
    made = write_report([run], tmp_path / "out", answers=0)
    said = "Texts that could not be scored, and count as wrong: 1 crashed, 2 timed out."
    assert said in Page(made.page.read_text("utf-8")).inside("p")
    assert "count as wrong | 1 crashed, 2 timed out |" in made.markdown.read_text("utf-8")


def test_questions_with_fewer_samples_than_others_are_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"majority": (1.0, 0.0)}, widths=(1,), samples=3, limit=4)
    with RunStore(run, write=True) as store:
        for new in ("q8", "q9"):
            cell = Cell("products", "majority", 1, 0, new)
            store.add_outcome(cell, Outcome(1.0, (RIGHT,), 10, 0, 10))
        found = find(store, "run", "run")
    assert [row.accuracy.questions for one in found.standings for row in one.rows] == [2]
    assert found.left_out == [
        "products: 2 of 4 questions, which lack some of the others' 3 samples; --limit 4 "
        "--samples 3 answers them all"
    ]


# -- several runs, and what is wrong with them ---------------------------------------------------


def test_runs_with_other_settings_stand_side_by_side(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name / "run", {"majority": (1.0, 0.0)}, widths=(1,), seed=seed)
        for name, seed in (("a", 3), ("b", 4))
    ]
    made = write_report(runs, tmp_path / "out", answers=0)
    page = Page(made.page.read_text("utf-8"))
    assert page.inside("h2") == ["a/run", "b/run"]
    assert len({attributes["id"] for _, attributes in page.tags if "id" in attributes}) == len(
        [attributes for _, attributes in page.tags if "id" in attributes]
    )
    assert len(set(made.figures)) == 8


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6))
def test_slugs_differ_and_are_plain(names: list[str]) -> None:
    slugs = slugs_of(names)
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", slug) for slug in slugs)


def test_names_are_as_short_as_tells_them_apart() -> None:
    assert names_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names_of([Path("/x/a"), Path("/y/a")]) == ["x/a", "y/a"]


def test_a_run_that_is_not_finished_is_shown_and_said_to_be_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"majority": (1.0, 0.0)}, widths=(1,), finished=False)
    made = write_report([run], tmp_path / "out", answers=0)
    assert "This run is not finished" in made.page.read_text("utf-8")
    assert "This run is not finished" in made.markdown.read_text("utf-8")


def test_a_single_question_has_no_error_and_scripts_get_null(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"majority": (1.0,), "sequential": (0.0,)}, widths=(1,))
    with RunStore(run) as store:
        found = find(store, "run", "run").to_dict()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["rows"][0]["accuracy"] == {
        "mean": 0.0,
        "error": None,
        "questions": 1,
    } or (json.loads(text)["rows"][0]["accuracy"] == {"mean": 1.0, "error": None, "questions": 1})


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run of an evaluation"):
        write_report([tmp_path], tmp_path / "out")
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "out")
    run = write_run(tmp_path / "run", {"majority": (1.0,)})
    with pytest.raises(UsageError, match="named once"):
        write_report([run, run], tmp_path / "out")
    with pytest.raises(UsageError, match="0 or more; got -1"):
        write_report([run], tmp_path / "out", answers=-1)


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"majority": (1.0,)})
    with sqlite3.connect(run / FILE) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer version"):
        write_report([run], tmp_path / "out")


def test_a_run_without_answers_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path, write=True) as store:
        store.note("settings", {})
    with pytest.raises(UsageError, match="no answers yet"):
        write_report([tmp_path], tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"majority": (1.0,)}, widths=(1,))
    (tmp_path / "file").write_text("here")
    with pytest.raises(UsageError, match="cannot be written to"):
        write_report([run], tmp_path / "file" / "out")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_line_of_markdown_without_markup(text: str) -> None:
    found = markdown(text)
    assert "\n" not in found
    assert "<" not in found
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_$\[\]]", found)
    assert len(list(itertools.takewhile(str.isspace, found))) == 0
