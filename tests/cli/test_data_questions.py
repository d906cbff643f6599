"""``parathinker data questions``: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parathinker.benchmarks import BENCHMARKS, load_benchmark
from parathinker.data.samples import SampleStore
from parathinker.data.schema import read_questions

Run = Callable[..., tuple[int, str, str]]
FIXTURES = Path(__file__).parent.parent / "data" / "fixtures"
OPENR1, DEEPMATH = FIXTURES / "openr1.jsonl", FIXTURES / "deepmath.jsonl"


def test_questions_of_several_sources_become_one_file(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "new" / "questions.jsonl"
    code, said, errors = run("data", "questions", OPENR1, DEEPMATH, OPENR1, "-o", output)
    assert (code, errors) == (0, "")
    assert len(list(read_questions(output))) == 6
    for word in ("openr1", "deepmath", "3 duplicate", "6 questions", "5 with a reference answer"):
        assert word in said


def test_json_says_what_became_of_every_row(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "q.jsonl"
    options = ("--min-difficulty", 3, "--require-answer", "--limit", 1, "-o", output, "--json")
    code, said, _ = run("data", "questions", DEEPMATH, *options)
    assert code == 0
    assert json.loads(said) == {
        "questions": 1,
        "with_answer": 1,
        "samples": None,
        "output": str(output),
        "store": None,
        "sources": [
            {
                "source": str(DEEPMATH),
                "layout": "deepmath",
                "rows": 2,
                "kept": 1,
                "dropped": {"too easy": 1},
            }
        ],
    }


def test_reasoning_gym_takes_its_options(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "q.jsonl"
    options = ("--size", 5, "--seed", 1, "--option", "min_terms=2", "--option", "max_terms=2")
    code, _, _ = run("data", "questions", "reasoning-gym:chain_sum", *options, "-o", output)
    assert code == 0
    entries = [question.metadata["entry"] for question in read_questions(output)]
    assert [entry["metadata"]["num_terms"] for entry in entries] == [2] * 5


def test_questions_of_benchmarks_are_left_out_before_a_teacher_is_asked(
    run: Run, tmp_path: Path
) -> None:
    leaked = [load_benchmark(name)[0] for name in BENCHMARKS]
    file = tmp_path / "mine.jsonl"
    texts = [*(f"Please solve: {one.question}" for one in leaked), "What is 2 + 2?"]
    file.write_text("".join(json.dumps({"problem": text, "answer": "4"}) + "\n" for text in texts))
    output = tmp_path / "q.jsonl"
    code, said, _ = run("data", "questions", file, "-o", output, "--clear-of-benchmarks", "--json")
    assert code == 0
    assert json.loads(said)["sources"][0]["dropped"] == {f"in {name}": 1 for name in BENCHMARKS}
    assert [question.question for question in read_questions(output)] == ["What is 2 + 2?"]


def test_samples_that_a_source_holds_go_into_a_store(run: Run, tmp_path: Path) -> None:
    store, output = tmp_path / "samples.sqlite", tmp_path / "q.jsonl"
    code, said, _ = run("data", "questions", OPENR1, "--with-samples", store)
    assert code == 0
    assert "5 samples" in said
    with SampleStore(store) as read:
        assert (read.count("questions"), read.count("samples")) == (3, 5)
    both = ("--with-samples", store, "-o", output, "--force", "--json", "--limit", 1)
    code, said, _ = run("data", "questions", OPENR1, *both)
    assert (code, json.loads(said)["samples"]) == (0, 2)
    assert len(list(read_questions(output))) == 1
    assert sorted(tmp_path.iterdir()) == [output, store]


def test_nothing_is_replaced_without_force(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "q.jsonl"
    output.write_text("mine")
    code, said, errors = run("data", "questions", DEEPMATH, "-o", output)
    assert (code, said, output.read_text()) == (2, "", "mine")
    assert "--force replaces it" in errors
    code, _, errors = run("data", "questions", DEEPMATH, "--with-samples", output)
    assert (code, output.read_text()) == (2, "mine")
    assert run("data", "questions", DEEPMATH, "-o", output, "--force")[0] == 0
    assert len(list(read_questions(output))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DEEPMATH,), "say where to write"),
        ((DEEPMATH, "-o", "questions.txt"), "should end in .jsonl"),
        ((DEEPMATH, "-o", "q.jsonl", "--option", "three"), "should be NAME=VALUE"),
        ((DEEPMATH, "-o", "q.jsonl", "--min-difficulty", "9"), "no question is left"),
        ((DEEPMATH, "-o", "q.jsonl", "--min-difficulty", "9"), "3 rows (3 too easy)"),
        ((DEEPMATH, "-o", "q.jsonl", "--layout", "limo"), "it lacks solution, answer"),
        (("nothing-here", "-o", "q.jsonl"), "unknown source 'nothing-here'"),
        (("reasoning-gym:nothing", "-o", "q.jsonl"), "no task 'nothing'"),
        ((DEEPMATH, "-o", "q.jsonl", "--limit", "0"), "--limit"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_no_file(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, errors = run("data", "questions", *arguments)
    assert (code, said) == (2, "")
    assert message in " ".join(errors.split())
    assert list(tmp_path.iterdir()) == []


def test_a_hub_out_of_reach_is_a_failure_not_a_usage_error(run: Run, tmp_path: Path) -> None:
    code, said, errors = run("data", "questions", "limo", "-o", tmp_path / "q.jsonl")
    assert (code, said) == (1, "")
    assert "'GAIR/LIMO' is no file or folder here, and the hub did not give it" in errors


@pytest.mark.parametrize("command", [("data",), ("data", "questions")])
def test_help_has_examples(run: Run, command: tuple[str, ...]) -> None:
    code, said, _ = run(*command, "--help")
    assert code == 0
    assert "Example" in said
    assert "questions" in said
