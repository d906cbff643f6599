"""``parathinker eval`` as a user meets it: tables, refusals, kills, Ctrl-C, a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from evaluation_runs import full_disk
from parathinker.cli.eval import split_methods
from parathinker.data.schema import Question
from parathinker.evaluation.lab import Lab, Sampling
from parathinker.evaluation.report.writing import PAGE
from parathinker.evaluation.run import run as run_evaluation
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import FILE, RunStore
from parathinker.evaluation.tables import Results
from parathinker.scoring import ScoringPool
from parathinker.sqlite_file import SqliteFile
from thinkers import shared
from tiny_models import CHAT_TEMPLATE, save_plain_model, save_released_model

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    rows = [{"problem": f"What is {i}+{i}?", "answer": str(2 * i)} for i in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def command(tiny_random_model: Path, sums: Path, tmp_path: Path) -> list[object]:
    return [
        "eval", "--model", tiny_random_model, "--benchmark", sums, "--paths", "1,2",
        "--budget", 24, "--summary-tokens", 6, "--temperature", 3, "--latency-questions", 0,
        "--limit", 2, "-o", tmp_path / "run",
    ]  # fmt: skip


def test_a_run_prints_a_table_and_says_where_it_is_kept(run: Run, command: list[object]) -> None:
    code, output, errors = run(*command)
    assert code == 0
    assert "2 questions × 1" in output
    for method in ("sequential", "majority", "parallel"):
        assert method in output
    assert "Kept in" in errors


def test_json_is_whole_even_where_there_is_no_error(run: Run, command: list[object]) -> None:
    code, output, _ = run(*command, "--limit", 1, "--json")
    assert code == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(output, parse_constant=refuse)
    assert len(found["rows"]) == 6
    assert found["rows"][0]["accuracy"]["error"] is None
    assert found["settings"]["budget"] == 24


def test_a_yaml_file_says_the_same_as_options_and_options_win(
    run: Run, command: list[object], tiny_random_model: Path, sums: Path, tmp_path: Path
) -> None:
    settings = {
        "model": str(tiny_random_model),
        "benchmarks": [str(sums)],
        "paths": [1, 2],
        "budget": 24,
        "summary_tokens": 6,
        "temperature": 3.0,
        "latency_questions": 0,
        "limit": 5,
    }
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert run(*command)[0] == 0
    by_file = "eval", "--config", file, "--limit", 2
    code, output, _ = run(*by_file, "-o", tmp_path / "run", "--json")
    assert code == 0, "the same settings: the folder takes them"
    assert json.loads(output)["rows"][0]["accuracy"]["questions"] == 2
    file.write_text("budget: 24\nbugdet: 25\n")
    code, _, errors = run("eval", "--config", file)
    assert (code, "did you mean budget" in errors) == (2, True)
    file.write_text("budget: [")
    assert run("eval", "--config", file)[0] == 2
    assert run("eval", "--config", tmp_path / "none.yaml")[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "majorty"), "did you mean majority"),
        (("--benchmark", "aime2"), "did you mean aime2"),
        (("--paths", "1,two"), "--paths should be numbers"),
        (("--budget", 9), "smaller than a prompt"),
        (("--option", "digits"), "NAME=VALUE"),
        (("--model", "nowhere/at-all"), "nowhere/at-all"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    run: Run, command: list[object], options: tuple[object, ...], message: str
) -> None:
    code, output, errors = run(*command, *options)
    assert code in (1, 2)
    assert message in errors
    assert "Traceback" not in errors
    assert output == ""


def test_other_settings_for_a_folder_are_refused_by_name(run: Run, command: list[object]) -> None:
    assert run(*command)[0] == 0
    code, _, errors = run(*command, "--budget", 30)
    assert code == 2
    assert "budget: 24 there, 30 now" in errors


def test_a_width_that_cannot_be_is_left_out_with_a_note(run: Run, command: list[object]) -> None:
    code, _, errors = run(*command, "--paths", "1,9", "--limit", 1)
    assert code == 0
    assert "Note: parallel: a width of 9 is more than this model's 8 paths" in errors


def test_methods_are_split_at_commas_but_not_inside_their_options() -> None:
    assert split_methods("a, b:x=1,y=2 ; c") == ["a", "b:x=1,y=2", "c"]
    assert split_methods("tree:depth=2, breadth=3,tree:depth=4") == [
        "tree:depth=2,breadth=3",
        "tree:depth=4",
    ]


def start(command: list[object], before: str = "pass", **more: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    code = f"{before}; import sys; from parathinker.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **more,  # type: ignore[call-overload]
    )


def made(folder: Path) -> dict[str, tuple[int, float, bytes]]:
    """All generations: when each was made in the order of all, how long it took, what it is."""
    if not (folder / FILE).is_file():
        return {}
    with RunStore(folder) as store:
        file: SqliteFile = store._file
        rows = file.execute("SELECT key, rowid, seconds, segments FROM generations")
        return {key: (number, seconds, raw) for key, number, seconds, raw in rows}


def outcomes(folder: Path) -> dict[object, object]:
    with RunStore(folder) as store:
        return dict(store.outcomes())


def wait_for(folder: Path, more_than: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if len(made(folder)) > more_than:
                return
        except Exception:  # not there yet, or being made just now
            pass
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(
    command: list[object], tmp_path: Path, tiny_random_model: Path, sums: Path
) -> None:
    methods = ["sequential", "majority", "confidence", "tree", "parallel", "reprefill"]
    command = [*command, "--limit", 6, "--samples", 20, "--methods", ",".join(methods)]
    folder, kills = tmp_path / "run", 0
    for _ in range(4):
        before = made(folder)
        process = start(command)
        wait_for(folder, len(before) + 40, process)
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)
        process.communicate()
        after = made(folder)
        assert {key: after[key] for key in before} == before, "made again, or lost"
    assert kills >= 2
    process = start(command)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    settings = EvalSettings(
        str(tiny_random_model), (str(sums),), tuple(methods), (1, 2), 24, 6, 20, 6, 3.0,
        latency_questions=0,
    )  # fmt: skip
    run_evaluation(settings, tmp_path / "unbroken")
    assert outcomes(folder) == outcomes(tmp_path / "unbroken")
    assert made(folder).keys() == made(tmp_path / "unbroken").keys()


def test_ctrl_c_stops_at_once_and_keeps_what_was_made(
    command: list[object], tmp_path: Path
) -> None:
    process = start([*command, "--limit", 6, "--samples", 500])
    wait_for(tmp_path / "run", 5, process)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 20
    assert errors.strip().endswith("Stopped.")
    assert "Traceback" not in errors
    assert len(made(tmp_path / "run")) > 5


def test_a_full_disk_is_said_and_what_was_made_stays(command: list[object], tmp_path: Path) -> None:
    command = [*command, "--limit", 6, "--samples", 200, "--methods", "sequential,parallel"]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))"
    process = start(command, limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cannot be written" in errors
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
    kept = made(tmp_path / "run")
    assert len(kept) > 20
    # With room, the same command goes on.
    process = start([*command[:-4], "--samples", 10, *command[-2:]])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    after = made(tmp_path / "run")
    assert {key: after[key] for key in kept} == kept


@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk_is_said_at_the_start_and_on_going_on(
    run: Run, command: list[object], tmp_path: Path, room: int
) -> None:
    with full_disk(room):
        code, _, errors = run(*command)
    assert code == 1
    assert "cannot be written: " in errors
    assert not (tmp_path / "run").exists()
    assert run(*command)[0] == 0
    with full_disk(room):
        code, _, errors = run(*command)
    assert code == 1
    assert "cannot be opened: " in errors


def test_the_settings_lie_beside_what_was_found_and_make_the_same_run(
    run: Run, command: list[object], tmp_path: Path
) -> None:
    assert run(*command)[0] == 0
    file = tmp_path / "run" / "settings.yaml"
    assert yaml.safe_load(file.read_text("utf-8"))["budget"] == 24
    assert run("eval", "--config", file, "-o", tmp_path / "again")[0] == 0
    assert outcomes(tmp_path / "again") == outcomes(tmp_path / "run")
    # A run that grew says all that it holds.
    assert run(*command, "--limit", 3, "--paths", "1")[0] == 0
    grown = yaml.safe_load(file.read_text("utf-8"))
    assert (grown["limit"], grown["paths"]) == (3, [1, 2])


def test_questions_that_lack_samples_are_noted(run: Run, command: list[object]) -> None:
    methods = "--methods", "majority"
    assert run(*command, *methods, "--samples", 2)[0] == 0
    code, output, errors = run(*command, *methods, "--limit", 4, "--json")
    assert code == 0
    lacking = "2 of 4 questions, which lack some of the others' 2 samples; --limit 4 --samples 2"
    assert lacking in errors
    assert lacking in json.loads(output)["left_out"][0]
    _, output, errors = run(*command, *methods, "--limit", 4, "--samples", 2, "--json")
    assert "Note" not in errors
    assert json.loads(output)["rows"][0]["accuracy"]["questions"] == 4


def test_a_question_that_was_changed_is_refused(
    run: Run, command: list[object], sums: Path
) -> None:
    assert run(*command)[0] == 0
    sums.write_text(sums.read_text().replace("What is 1+1?", "What is one and one?"))
    code, _, errors = run(*command)
    assert code == 2
    assert "question 2 is" in errors
    sums.write_text(sums.read_text().replace("What is one and one?", "What is 1+1?"))
    assert run(*command)[0] == 0


def commands_for_the_published_row() -> list[list[str]]:
    """As the documentation prints them, in words."""
    text = (ROOT / "docs/evaluation.md").read_text("utf-8")
    section = text.partition("## The published row")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return [shlex.split(line) for line in block.replace("\\\n", " ").strip().splitlines()]


@pytest.mark.slow
def test_the_published_row_is_measured_on_stand_ins_by_the_documented_commands(
    run: Run, tmp_path: Path
) -> None:
    """The released format and a plain base model, with random weights, at tiny budgets."""
    released, base = tmp_path / "released", tmp_path / "base"
    released.mkdir()
    save_released_model(released, closing=6.0)
    save_plain_model(base, ending=6.0, chat_template=CHAT_TEMPLATE)
    names = {
        "RELEASED": str(released),
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": str(base),
        "runs/published": str(tmp_path / "run"),
        "16384": "700",
        "aime24,aime25,amc23,math500": "math500",
    }
    *measured, report = commands_for_the_published_row()
    assert len(measured) == 2
    for command in [*measured, report]:
        text = "\n".join(command[1:])
        for name, here in names.items():
            text = text.replace(name, here)
        fewer = [] if command is report else ["--limit", "2", "--summary-tokens", "16"]
        code, _, errors = run(*text.split("\n"), *fewer)
        assert code == 0, errors
        assert "Note:" not in errors, "nothing was left out"
    with RunStore(tmp_path / "run") as store:
        rows = {(row.method, row.width): row for row in Results(store).rows()}
        pairs = {(one.method, one.reference) for one in Results(store).paired()}
    assert rows.keys() == {
        ("parallel", 8), (f"majority:model={base}", 8), (f"sequential:model={base}", 2)
    }  # fmt: skip
    assert all((row.accuracy.questions, row.replicates) == (2, 16) for row in rows.values())
    assert ("parallel", f"majority:model={base}") in pairs
    assert (tmp_path / "run" / "report" / PAGE).is_file()


@pytest.mark.slow
def test_an_answer_whose_scoring_hangs_is_wrong_and_the_run_goes_on(tmp_path: Path) -> None:
    """What scores answers has a time limit; see the tests of scoring for what exceeds it."""
    question = Question("q", "?", "9")
    with RunStore(tmp_path, write=True) as store, ScoringPool(1, timeout_s=0.5) as scoring:
        lab = Lab(shared("tiny"), Sampling("tiny", 20, 1, None, 1.0), store, scoring)
        endless = "\\boxed{" + "9^" * 40 + "9}"
        assert asyncio.run(lab.score(question, endless)) == 0.0
        assert asyncio.run(lab.score(question, "\\boxed{9}")) == 1.0
        lab.close()
