"""``parathinker diagnose``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from evaluation_runs import full_disk
from parathinker.evaluation.generations import Generation
from parathinker.evaluation.store import FILE, RunStore
from tiny_models import save_plain_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Two questions that a model which writes letters never answers right."""
    file = tmp_path / "questions.jsonl"
    lines = [
        {"problem": "What is 12 * 12?", "answer": "144"},
        {"problem": "What is 7 * 8?", "answer": "56"},
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return file


@pytest.fixture
def common(letters_model: Path, questions: Path) -> tuple[object, ...]:
    """Options of all diagnoses; the budget is a little more than a prompt."""
    return "--model", letters_model, "--benchmark", questions, "--budget", 80, "--temperature", 0.7


def files(folder: Path) -> set[str]:
    """What a diagnosis has left, its store aside."""
    return {file.name for file in folder.iterdir() if not file.name.startswith("run.sqlite")}


def generations(folder: Path) -> list[tuple[str, Generation]]:
    """All that a model has written for a diagnosis, with its kind."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        keys = file.execute("SELECT key, kind FROM generations ORDER BY key").fetchall()
    with RunStore(folder) as store:
        return [(kind, made) for key, kind in keys if (made := store.generation(key))]


def test_a_budget_sweep_has_both_kinds_of_chain(
    run: Run, common: tuple[object, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    code, output, errors = run(
        "diagnose", "budget", *common, "--budgets", "16,80", "-o", folder, "--json"
    )
    assert code == 0, errors
    found = json.loads(output)
    rows = [(row["kind"], row["budget"], row["accuracy"]["mean"]) for row in found["rows"]]
    assert rows == [("natural", 16, 0), ("natural", 80, 0), ("forced", 16, 0), ("forced", 80, 0)]
    assert [row["tokens"] for row in found["rows"] if row["kind"] == "forced"] == [16, 80]
    assert files(folder) == {
        "report.md", "report.json", "budget.png", "budget.svg", "settings.yaml",
    }  # fmt: skip
    assert "report.md" in errors


def test_tunnel_vision_forces_beginnings_of_wrong_paths(
    run: Run, common: tuple[object, ...], tmp_path: Path
) -> None:
    more = "--paths", 2, "--summary-tokens", 20, "--prefix-tokens", "0,2", "--continuations", 2
    folder = tmp_path / "tunnel"
    code, output, errors = run("diagnose", "tunnel-vision", *common, *more, "-o", folder)
    assert code == 0, errors
    assert "wrong path" in output
    assert "no sure trend" in output
    assert files(folder) == {
        "report.md", "report.json", "tunnel-vision.png", "tunnel-vision.svg", "settings.yaml",
    }  # fmt: skip
    found = json.loads((folder / "report.json").read_text())
    assert [(r["line"], r["prefix"], r["recovered"]["mean"]) for r in found["rows"]] == [
        ("wrong path", 0, 0), ("wrong path", 2, 0),
        ("wrong path, parallel", 0, 0), ("wrong path, parallel", 2, 0),
    ]  # fmt: skip

    made = generations(folder)
    starts = {
        (path.thought_id, path.token_ids[:3])
        for kind, one in made
        for path in one.segments
        if kind == "paths" and path.finish_reason == "stop"
    }
    grown = [one.segments for kind, one in made if kind == "grown"]
    chains = [paths[0] for paths in grown if len(paths) == 1]
    assert {thought_id for thought_id, _ in starts} == {1, 2}
    # An attempt goes on behind the thought id of the path that it takes its beginning from.
    begun = [chain for chain in chains if (chain.thought_id, chain.token_ids[:3]) in starts]
    assert len(begun) >= 2 * len(starts)
    assert max(chain.tokens for chain in chains) <= 2 * 80
    parallel = [paths for paths in grown if len(paths) == 2]
    assert all(sum(path.tokens for path in paths) <= 2 * 80 - 20 for paths in parallel)

    # All that was sampled is there: the same again asks the model for nothing.
    code, _, errors = run("diagnose", "tunnel-vision", *common, *more, "-o", folder)
    assert code == 0, errors
    assert len(generations(folder)) == len(made)
    assert json.loads((folder / "report.json").read_text())["rows"] == found["rows"]

    before = {file: file.read_bytes() for file in folder.iterdir()}
    code, _, errors = run("diagnose", "diversity", *common, "--paths", "1,2", "-o", folder)
    assert code == 2
    assert "holds tunnel-vision" in errors
    code, _, errors = run("diagnose", "tunnel-vision", *common, *more, "--seed", 1, "-o", folder)
    assert code == 2
    assert "seed: 0 there, 1 now" in errors
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_paths_that_never_end_have_no_wrong_answer_to_look_at(
    run: Run, endless_model: Path, questions: Path, tmp_path: Path
) -> None:
    code, _, errors = run(
        "diagnose", "tunnel-vision", "--model", endless_model, "--benchmark", questions,
        "--budget", 80, "--paths", 2, "--summary-tokens", 20, "-o", tmp_path / "tunnel",
    )  # fmt: skip
    assert code == 2
    assert "none ended by itself with a wrong answer, and 4 ran out of tokens" in errors


def test_ablations_take_parts_away_and_compare_variants(
    run: Run, common: tuple[object, ...], letters_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(letters_model, copy)
    code, output, errors = run(
        "diagnose", "ablations", *common, "--paths", 2, "--summary-tokens", 20,
        "--variant", f"the same={copy}", "-o", tmp_path / "ablations",
    )  # fmt: skip
    assert code == 0, errors
    for name in (
        "full model", "no thought embedding", "flattened positions", "re-prefill", "the same",
    ):  # fmt: skip
        assert name in output
    assert "inference only" in output
    assert "Not measured: what the data alone are worth" in output
    report = json.loads((tmp_path / "ablations" / "report.json").read_text())
    by_name = {row["variant"]: row for row in report["rows"]}
    # A copy with other weights would not write as much to the token.
    assert by_name["the same"]["tokens"] == by_name["full model"]["tokens"]
    assert by_name["no thought embedding"]["tokens"] != by_name["full model"]["tokens"]


def test_a_model_of_the_data_alone_is_measured_as_one_chain_with_a_summary(
    run: Run, common: tuple[object, ...], letters_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ablations"
    code, output, errors = run(
        "diagnose", "ablations", *common, "--paths", 2, "--summary-tokens", 20,
        "--data-only", letters_model, "-o", folder, "--json",
    )  # fmt: skip
    assert code == 0, errors
    found = json.loads(output)
    last = found["rows"][-1]
    assert last["variant"] == "data only, one chain"
    assert last["against_full"]["difference"] == 0
    assert not any("Not measured" in note for note in found["notes"])
    assert any("one chain and its summary" in note for note in found["notes"])
    made = generations(folder)
    chains = {one.segments[0].token_ids: one for kind, one in made if kind == "chain"}
    assert len(chains) == 2, "one for each question"
    assert all(one.segments[0].thought_id == 1 for one in chains.values())


def test_a_budget_sweep_takes_a_model_without_control_tokens_and_others_say_why_not(
    run: Run, questions: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    save_plain_model(base, ending=4.0)
    common = "--model", base, "--benchmark", questions, "--budget", 40, "--temperature", 1
    folder = tmp_path / "sweep"
    more = "--budgets", "16,40", "-o", folder, "--json"
    code, output, errors = run("diagnose", "budget", *common, *more)
    assert code == 0, errors
    found = json.loads(output)
    assert [row["tokens"] for row in found["rows"] if row["kind"] == "forced"] == [16, 40]
    assert {kind for kind, _ in generations(folder)} == {"completion"}
    for name in ("tunnel-vision", "ablations"):
        more = "--paths", 2, "--summary-tokens", 8, "-o", tmp_path / name
        code, _, errors = run("diagnose", name, *common, *more)
        assert code == 2
        assert "base has no control tokens" in errors
        assert not (tmp_path / name).exists()


def test_an_engine_that_is_not_there_is_named(
    run: Run, common: tuple[object, ...], tmp_path: Path
) -> None:
    more = "--backend", "vlm", "--engine-arg", "max_model_len=512", "-o", tmp_path / "sweep"
    code, _, errors = run("diagnose", "budget", *common, *more)
    assert code in (1, 2)
    assert "vlm" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk_is_said_at_the_start_and_on_going_on(
    run: Run, common: tuple[object, ...], tmp_path: Path, room: int
) -> None:
    command = "diagnose", "budget", *common, "--budgets", "16,80", "-o", tmp_path / "sweep"
    with full_disk(room):
        code, _, errors = run(*command)
    assert code == 1
    assert "cannot be written: " in errors
    assert not (tmp_path / "sweep").exists()
    assert run(*command)[0] == 0
    with full_disk(room):
        code, _, errors = run(*command)
    assert code == 1
    assert "cannot be opened: " in errors
    assert "Traceback" not in errors
    assert run(*command)[0] == 0


def test_diversity_has_pass_at_every_width(
    run: Run, common: tuple[object, ...], tmp_path: Path
) -> None:
    code, output, errors = run(
        "diagnose", "diversity", *common, "--paths", "1,3", "--summary-tokens", 20,
        "-o", tmp_path / "diversity", "--json",
    )  # fmt: skip
    assert code == 0, errors
    found = json.loads(output)
    assert [row["width"] for row in found["rows"]] == [1, 2, 3]
    assert [row["parallel"] is None for row in found["rows"]] == [False, True, False]
    assert found["spread"]["distance"]["mean"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("budget", "--budgets", "16,many"), "--budgets should be numbers with commas between"),
        (("budget", "--budgets", "16,64", "--budget", 32), "64 is more than --budget, 32"),
        (("budget", "--budget", 12, "--limit", 1), "smaller than a prompt"),
        (("budget", "--benchmark", "aime24,aime25"), "one benchmark; got aime24, aime25"),
        (("ablations", "--variant", "data"), "--variant should be NAME=VALUE; got 'data'"),
        (("ablations", "--variant", "a=tiny", "--variant", "a=tiny"), "--variant has 'a' twice"),
        (("ablations", "--variant", "a=nowhere"), "--variant a=nowhere: unknown model 'nowhere'"),
        (("ablations", "--variant", "re-prefill=tiny"), "has a row of that name"),
        (("ablations", "--data-only", "nowhere"), "--data-only nowhere: unknown model 'nowhere'"),
        (("diversity", "--paths", "1"), "at least two paths"),
        (("tunnel-vision", "--continuations", 0), "continuations should be from 1"),
        (
            ("tunnel-vision", "--limit", 1, "--budget", 99, "--prefix-tokens", "0,99"),
            "--prefix-tokens 99 does not fit",
        ),
        (
            ("tunnel-vision", "--limit", 1, "--budget", 64, "--paths", 99),
            "more than this model's",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    name, *rest = options
    code, _, errors = run("diagnose", name, *rest, "-o", tmp_path / "out")
    assert code == 2
    assert message in " ".join(errors.split())
    assert not (tmp_path / "out").exists(), "what is refused leaves nothing behind"


@pytest.mark.slow
def test_the_embedded_model_has_tunnel_vision_and_paths_side_by_side_have_not(
    run: Run, tmp_path: Path
) -> None:
    code, output, errors = run(
        "diagnose", "tunnel-vision", "--limit", 8, "--budget", 288, "--summary-tokens", 32,
        "--prefix-tokens", "0,160", "-o", tmp_path / "tunnel", "--json",
    )  # fmt: skip
    assert code == 0, errors
    recovered = {
        (row["line"], row["prefix"]): row["recovered"]["mean"] for row in json.loads(output)["rows"]
    }
    assert recovered["wrong path", 160] < recovered["wrong path", 0] - 0.3
    assert recovered["wrong path, parallel", 160] > recovered["wrong path", 160] + 0.3
    assert recovered["right path", 160] > recovered["wrong path", 160] + 0.3
