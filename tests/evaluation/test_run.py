"""A run goes on where it stopped, grows, and refuses to become another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parathinker import UsageError
from parathinker.evaluation.run import run
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import FILE, RunStore
from parathinker.evaluation.tables import Results
from parathinker.sqlite_file import SqliteFile

QUESTIONS = [{"problem": f"What is {i}+{i}?", "answer": str(2 * i)} for i in range(4)]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    return file


@pytest.fixture
def settings(tiny_random_model: Path, questions: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_random_model),
        "benchmarks": [str(questions)],
        "methods": ["sequential", "majority", "parallel"],
        "paths": [1, 2],
        "budget": 20,
        "summary_tokens": 6,
        "limit": 2,
        "temperature": 3.0,
        "latency_questions": 0,
    }


def generations(folder: Path) -> dict[str, tuple[int, float]]:
    """How often each kind was made, and when the last one was."""
    with RunStore(folder) as store:
        file: SqliteFile = store._file
        return {
            key: (number, seconds)
            for key, number, seconds in file.execute("SELECT key, rowid, seconds FROM generations")
        }


def scores(folder: Path) -> dict[tuple[object, ...], float]:
    with RunStore(folder) as store:
        return {
            (cell.method, cell.width, cell.replicate, cell.question_id): found.score
            for cell, found in store.outcomes()
        }


def test_a_run_answers_every_question_by_every_method(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    left_out = run(
        EvalSettings.from_mapping({**settings, "samples": 3, "latency_questions": 1}),
        tmp_path / "run",
        lambda *now: seen.append(now),
    )
    assert left_out == []
    with RunStore(tmp_path / "run") as store:
        results = Results(store)
        outcomes = list(store.outcomes())
        runs = store.fact("runs")
    assert len(outcomes) == 3 * 2 * 3 * 2
    assert all(found.tokens <= cell.width * 20 for cell, found in outcomes)
    assert {row.accuracy.questions for row in results.rows()} == {2}
    assert {row.replicates for row in results.rows()} == {3}
    assert all(row.latency_s is not None for row in results.rows())
    # The same question under another seed is answered anew.
    texts = [found.answers for cell, found in outcomes if cell.method == "sequential"]
    assert len(set(texts)) > len(texts) / 2
    progress = [(done, total) for what, done, total in seen if what == "answers"]
    assert (progress[0], progress[-1]) == ((0, 36), (36, 36))
    assert progress == sorted(progress)
    assert runs[0]["settings"]["budget"] == 20
    assert {"versions", "python", "system", "processors", "commit"} <= runs[0].keys()


def test_a_run_that_is_done_makes_nothing_again(settings: dict[str, Any], tmp_path: Path) -> None:
    chosen = EvalSettings.from_mapping(settings)
    run(chosen, tmp_path / "run")
    before, found = generations(tmp_path / "run"), scores(tmp_path / "run")
    run(chosen, tmp_path / "run")
    assert generations(tmp_path / "run") == before
    assert scores(tmp_path / "run") == found


@pytest.mark.parametrize(
    ("growth", "remade"),
    [
        ({"methods": ["majority", "confidence", "short:m=1", "best"]}, 0),
        ({"methods": ["parallel:termination=last-finish", "reprefill", "tree"]}, 0),
        ({"paths": [1]}, 0),
        ({"samples": 3}, 0),
        ({"limit": 4}, 0),
        # Wider paths are sampled together with the narrower ones, and a longer chain is one chain:
        # both anew where they did not end, for each of the questions.
        ({"paths": [1, 2, 4]}, 4),
    ],
)
def test_a_run_that_grows_keeps_what_it_made(
    settings: dict[str, Any], tmp_path: Path, growth: dict[str, Any], remade: int
) -> None:
    folder = tmp_path / "run"
    run(EvalSettings.from_mapping(settings), folder)
    before, found = generations(folder), scores(folder)
    run(EvalSettings.from_mapping({**settings, **growth}), folder)
    after = generations(folder)
    assert before.keys() <= after.keys()
    assert sum(after[key] != made for key, made in before.items()) <= remade
    assert found.items() <= scores(folder).items()
    # And it is what one run would have been from the start.
    at_once = tmp_path / "at once"
    all_methods = [*settings["methods"], *growth.get("methods", ())]
    run(EvalSettings.from_mapping({**settings, **growth, "methods": all_methods}), at_once)
    both = scores(folder)
    assert {cell: score for cell, score in scores(at_once).items() if cell in both} == {
        cell: score for cell, score in both.items() if cell in scores(at_once)
    }
    if "methods" not in growth and growth != {"paths": [1]}:
        assert both == scores(at_once)


def test_a_run_that_grew_says_all_that_it_holds(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(EvalSettings.from_mapping(settings), folder)
    later = {"methods": ["best", "majority"], "paths": [1], "limit": 1, "samples": 2}
    run(EvalSettings.from_mapping({**settings, **later}), folder)
    with RunStore(folder) as store:
        said = store.fact("settings")
    assert said["methods"] == ["sequential", "majority", "parallel", "best"]
    assert (said["paths"], said["limit"], said["samples"]) == ([1, 2], 2, 2)


@pytest.mark.parametrize(
    "change",
    [{"budget": 21}, {"temperature": 0.5}, {"seed": 1}, {"prompt": "Q: {question}"}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_refused_with_what_differs(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    run(EvalSettings.from_mapping(settings), tmp_path / "run")
    before = (tmp_path / "run" / FILE).read_bytes()
    ((name, now),) = change.items()
    with pytest.raises(UsageError, match=f"{name}: .* there, {now!r} now"):
        run(EvalSettings.from_mapping({**settings, **change}), tmp_path / "run")
    assert (tmp_path / "run" / FILE).read_bytes() == before


def test_another_model_and_a_changed_answer_are_refused(
    settings: dict[str, Any], tmp_path: Path, questions: Path, random_model: Any
) -> None:
    run(EvalSettings.from_mapping(settings), tmp_path / "run")
    other = str(random_model("llama", seed=5))
    with pytest.raises(UsageError, match=r"model: .* there, .* now"):
        run(EvalSettings.from_mapping({**settings, "model": other}), tmp_path / "run")
    questions.write_text(questions.read_text().replace('"answer": "2"', '"answer": "3"'))
    with pytest.raises(UsageError, match="another text or answer"):
        run(EvalSettings.from_mapping(settings), tmp_path / "run")


def test_a_model_may_be_named_in_another_way(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(EvalSettings.from_mapping(settings), tmp_path / "run")
    folder = Path(settings["model"])
    monkeypatch.chdir(folder.parent)
    run(EvalSettings.from_mapping({**settings, "model": folder.name}), tmp_path / "run")


def test_settings_that_were_refused_do_not_bind(settings: dict[str, Any], tmp_path: Path) -> None:
    small = EvalSettings.from_mapping({**settings, "budget": 4, "summary_tokens": 2})
    with pytest.raises(UsageError, match="budget 4 is smaller than a prompt"):
        run(small, tmp_path / "run")
    with pytest.raises(UsageError, match="does not fit"):
        run(EvalSettings.from_mapping({**settings, "budget": 5000}), tmp_path / "run")
    run(EvalSettings.from_mapping(settings), tmp_path / "run")


def test_what_a_model_cannot_do_is_left_out_and_said(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    wide = {**settings, "paths": [8, 9], "methods": ["parallel", "majority"], "limit": 1}
    left_out = run(EvalSettings.from_mapping(wide), tmp_path / "run")
    assert left_out == ["parallel: a width of 9 is more than this model's 8 paths"]
    with RunStore(tmp_path / "run") as store:
        found = {(cell.method, cell.width) for cell, _ in store.outcomes()}
    assert found == {("parallel", 8), ("majority", 8), ("majority", 9)}
    with pytest.raises(UsageError, match="a width of 9"):
        run(
            EvalSettings.from_mapping({**wide, "paths": [9], "methods": ["parallel"]}),
            tmp_path / "nothing",
        )


def test_a_chain_that_the_context_ends_is_said(settings: dict[str, Any], tmp_path: Path) -> None:
    long = {**settings, "methods": ["sequential"], "paths": [2], "budget": 2500, "limit": 1}
    left_out = run(EvalSettings.from_mapping(long), tmp_path / "run")
    assert len(left_out) == 1
    assert "sequential at 2 × 2500" in left_out[0]
    assert "context" in left_out[0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"bugdet": 5}, "did you mean budget"),
        ({"methods": "parallel"}, "a list of texts"),
        ({"paths": ["8"]}, "a list of whole numbers"),
        ({"paths": [0]}, "from 1"),
        ({"budget": 3.5}, "whole number"),
        ({"temperature": "hot"}, "temperature should be"),
        ({"top_p": 0}, "top_p should be"),
        ({"prompt": 5}, "prompt should be a text"),
        ({"task_options": [1]}, "names and values"),
    ],
)
def test_settings_that_make_no_sense_are_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EvalSettings.from_mapping(raw)


def test_evaluations_with_different_seeds_have_no_answer_in_common() -> None:
    first, second = EvalSettings(samples=64), EvalSettings(samples=64, seed=1)
    seeds = {one.seed_of(replicate) for one in (first, second) for replicate in range(64)}
    assert len(seeds) == 128
