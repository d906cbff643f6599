"""``parathinker data build``, ``inspect`` and ``stats`` as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parathinker.cli.data.steps import showing_steps
from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Question, question_id, read_examples, write_questions

Run = Callable[..., tuple[int, str, str]]

WAYS = (
    "Adding the tens of both first, and the ones after that, I come to {value}.",
    "Take one from the smaller, give it to the larger, count on: {value} it must be.",
    "Below each other, column by column, with a carry where one is due: {value}.",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions, three samples each, of which the last is wrong and steers terminals."""
    path = tmp_path_factory.mktemp("store") / "samples.sqlite"
    asked = [
        Question(question_id(text), text, str(n + 31), "test")
        for n in range(3)
        for text in [f"How much is {n} and 31 together?"]
    ]
    with SampleStore.begin(path, SamplingSettings(models=("m",), paths=3), asked) as samples:
        for n, one in enumerate(asked):
            for i, way in enumerate(WAYS):
                value = f"{n + 31}" if i < 2 else f"{n}\x1b[2J"
                text = way.format(value=value)
                samples.add(Sample(one.id, i, text, text, "stop", "m", "e", 1, 1, 0.1, None))
    return path


@pytest.fixture
def dataset(store: Path, run: Run, tmp_path: Path) -> Path:
    code, _, errors = run("data", "build", store, "-o", tmp_path / "set", "--workers", 1)
    assert code == 0, errors
    return tmp_path / "set"


def test_build_says_what_it_dropped_and_where_to_look(
    store: Path, run: Run, tmp_path: Path
) -> None:
    target = tmp_path / "set"
    code, output, _ = run("data", "build", store, "-o", target, "--keep", "right", "--workers", 1)
    assert code == 0
    assert "3 wrong" in output
    assert "parathinker data inspect" in output
    assert "dropped.jsonl" not in output  # there is nothing in it
    assert all(len(example.paths) == 2 for example in read_examples(target))


def test_build_prints_json_for_scripts(store: Path, run: Run, tmp_path: Path) -> None:
    code, output, _ = run(
        *("data", "build", store, "-o", tmp_path / "set", "--workers", 1, "--json"),
        *("--summary", "none", "--paths", 2, "--wrong-share", 0.5, "--min-right", 1),
    )
    assert code == 0
    report = json.loads(output)
    assert report["splits"]["train"]["wrong"] == 3
    assert report["settings"]["wrong_share"] == 0.5
    assert {step["step"] for step in report["steps"]} >= {"decontamination", "diverse paths"}


def test_build_keeps_clear_of_ones_own_benchmark(store: Path, run: Run, tmp_path: Path) -> None:
    text = "how much is 2 AND 31 together"
    mine = tmp_path / "mine.jsonl"
    write_questions(mine, [Question(question_id(text), text)])
    code, _, errors = run(
        "data", "build", store, "-o", tmp_path / "set", "--against", mine, "--workers", 1
    )
    assert code == 0, errors
    assert len(list(read_examples(tmp_path / "set"))) == 2
    dropped = json.loads((tmp_path / "set" / "dropped.jsonl").read_text())
    assert dropped["detail"]["benchmark_question"] == text


def test_long_steps_are_told_in_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parathinker.cli.data.steps.LINE_EVERY_S", 0.0)
    with showing_steps() as show:
        show("checking answers", 1200, 5000)
    assert "checking answers: 1,200 of 5,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "some"), "keep should be one of"),
        (("--max-tokens", 100), "tokenizer should be given"),
        (("--tokenizer", "nowhere"), "has no tokenizer.json"),
        (("--benchmarks", "aime1983"), "benchmarks should be of"),
    ],
)
def test_build_refuses_what_cannot_be(
    store: Path, run: Run, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    code, _, errors = run("data", "build", store, "-o", tmp_path / "set", *options)
    assert code == 2
    assert message in errors
    assert not (tmp_path / "set").exists()


def test_build_of_what_is_not_there_says_so(run: Run, tmp_path: Path) -> None:
    code, _, errors = run("data", "build", tmp_path / "no.sqlite", "-o", tmp_path / "set")
    assert code == 2
    assert "no store of samples" in errors


def test_inspect_shows_examples_in_a_table(dataset: Path, run: Run) -> None:
    code, output, _ = run("data", "inspect", dataset, "--limit", 2)
    assert code == 0
    assert "There are more" in output
    assert run("data", "inspect", dataset, "--only", "mixed")[0] == 0
    code, _, errors = run("data", "inspect", dataset, "--only", "wrong")
    assert (code, "no such example" in errors) == (2, True)
    assert run("data", "inspect", dataset, "--only", "good")[0] == 2


def test_inspect_shows_one_example_in_full_and_steers_no_terminal(dataset: Path, run: Run) -> None:
    one = next(read_examples(dataset))
    code, output, _ = run("data", "inspect", dataset, "--id", one.id)
    assert code == 0
    assert one.question in output
    assert "[path 3: wrong" in output
    assert "only read" in output
    assert all(path.text.split(":")[0] in output for path in one.paths)
    assert "\x1b" not in output


def test_inspect_writes_a_page(dataset: Path, run: Run, tmp_path: Path) -> None:
    code, output, _ = run("data", "inspect", dataset, "--html", tmp_path / "page.html")
    assert code == 0
    assert "3 examples" in output
    assert "How much is 2 and 31 together?" in (tmp_path / "page.html").read_text("utf-8")


def test_stats_tell_counts_and_lengths(
    dataset: Path, run: Run, tmp_path: Path, tiny_random_model: Path
) -> None:
    code, output, _ = run("data", "stats", dataset)
    assert code == 0
    assert "6 right, 3 wrong" in output
    code, output, _ = run(
        *("data", "stats", dataset, "--json", "--tokenizer", tiny_random_model),
        *("--plots", tmp_path / "plots"),
    )
    assert code == 0
    figures = json.loads(output)
    assert figures["unit"] == "tokens"
    assert (figures["examples"], figures["right_share"]["50% to 75%"]) == (3, 3)
    assert len(figures["plots"]) == len(list((tmp_path / "plots").iterdir())) == 8
