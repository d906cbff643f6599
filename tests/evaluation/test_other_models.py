"""Methods done with other models than the run's own, those without control tokens among them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from evaluation_runs import Remembering, write_run
from parathinker import CheckpointError, ParaThinker, ThinkingParams, UsageError
from parathinker.data.schema import Question
from parathinker.evaluation.generations import LENGTH, Written
from parathinker.evaluation.keeping import Forgetful
from parathinker.evaluation.lab import GROUP_SEEDS, Case, Lab, Sampling
from parathinker.evaluation.methods import METHODS, parse_method
from parathinker.evaluation.plain_lab import PlainLab
from parathinker.evaluation.report.figures import _terminations
from parathinker.evaluation.report.findings import find
from parathinker.evaluation.report.strokes import shown_name
from parathinker.evaluation.run import run
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import FILE, RunStore
from parathinker.evaluation.tables import Results
from parathinker.sqlite_file import SqliteFile
from thinkers import shared, thinker
from tiny_models import CHAT_TEMPLATE, save_plain_model

T = TypeVar("T")
QUESTION = Question("q", "What is 2 + 2?", "4")
WIDEST, BUDGET = 4, 24
WORK_WITH_ALL = ("sequential", "majority", "confidence", "likeliest", "short", "best")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "base"
    return save_plain_model(folder, ending=4.0, chat_template=CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def plain(plain_folder: Path) -> ParaThinker:
    return thinker(plain_folder, plain=True)


@pytest.fixture
def lab(plain: ParaThinker) -> Iterator[PlainLab]:
    one = PlainLab(plain, Sampling("base", BUDGET, WIDEST, 1.0, 1.0), Remembering(), None)
    yield one
    one.close()


def case(width: int, seed: int = 3, budget: int = BUDGET) -> Case:
    return Case(QUESTION, QUESTION.question, width, budget, 10, seed)


def now(what: Awaitable[T]) -> T:
    async def wait() -> T:
        return await what

    return asyncio.run(wait())


def completed(model: ParaThinker, seed: int, tokens: int) -> Written:
    params = ThinkingParams(
        temperature=1.0, seed=seed, max_path_tokens=tokens, top_logprobs=20, logprobs=False
    )
    return Written.of(model.complete(QUESTION.question, params).summary)


@pytest.mark.parametrize("budget", [BUDGET, 9])
def test_paths_are_completions_with_seeds_of_their_own(lab: PlainLab, budget: int) -> None:
    reasons, texts = set(), set()
    for seed in range(4):
        paths, keys = now(lab.paths(case(3, seed, budget)))
        assert len(set(keys)) == 3
        for i, path in enumerate(paths):
            alone = completed(lab.model, seed + GROUP_SEEDS * i, budget)
            assert path.token_ids == alone.token_ids
            assert (path.text, path.finish_reason) == (alone.text, alone.finish_reason)
            assert path.confidences == pytest.approx(alone.confidences, abs=2e-4)
            assert path.thought_id == i + 1
            reasons.add(path.finish_reason)
        texts |= {path.token_ids for path in paths}
    assert len(texts) > 6
    assert reasons == {"stop", "length"}


def test_fewer_paths_are_the_first_of_many_and_none_is_written_twice(lab: PlainLab) -> None:
    few, _ = now(lab.paths(case(2)))
    many, _ = now(lab.paths(case(4)))
    assert many[:2] == few
    assert lab._store.made == ["completion"] * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("forced", [False, True])
def test_a_chain_cut_to_a_budget_is_the_chain_with_that_budget(lab: PlainLab, forced: bool) -> None:
    for seed in range(3):
        for tokens in (90, 3, 48, 24, 67):
            found = now(lab.chain(case(1, seed), tokens, forced)).segments[0]
            alone = PlainLab(lab.model, lab._how, Forgetful(), None)
            wanted = now(alone.chain(case(1, seed), tokens, forced)).segments[0]
            alone.close()
            assert found == dataclasses.replace(wanted, logprobs=found.logprobs)
            assert found.tokens == tokens if forced else found.tokens <= tokens
    assert lab._store.made == ["completion"] * 3  # type: ignore[attr-defined]


def test_a_forced_chain_writes_wait_where_it_would_have_ended(lab: PlainLab) -> None:
    free = now(lab.chain(case(1, 2), 96)).segments[0]
    assert free.finish_reason == "stop"
    forced = now(lab.chain(case(1, 2), 96, forced=True)).segments[0]
    assert forced.text.startswith(free.text + "\nWait")
    assert (forced.tokens, forced.finish_reason) == (96, LENGTH)


def test_a_chain_ends_where_the_context_does(lab: PlainLab) -> None:
    found = now(lab.chain(case(1), 10_000, forced=True)).segments[0]
    assert found.tokens == lab.chain_room(case(1))
    assert found.tokens == 4096 - lab.model.prompt_tokens(QUESTION.question) - 1


def test_short_stops_when_enough_have_ended(plain: ParaThinker) -> None:
    how = Sampling("base", 2000, 4, 1.0, 1.0)
    alone = PlainLab(plain, how, Forgetful(), None)
    now(parse_method("short:m=1").run_alone(case(4, budget=2000), alone))
    alone.close()
    assert plain.load().running == 0


@pytest.mark.parametrize("name", METHODS)
def test_what_needs_control_tokens_says_so_and_all_else_works(lab: PlainLab, name: str) -> None:
    method, one = parse_method(name), case(2, budget=60)
    if name in WORK_WITH_ALL:
        method.check(one, lab)
    else:
        with pytest.raises(UsageError, match=f"{name}: base has no control tokens"):
            method.check(one, lab)
    with pytest.raises(UsageError, match="base has no control tokens"):
        parse_method("sequential:summary=true").check(one, lab)


@pytest.fixture
def settings(tiny_random_model: Path, tmp_path: Path) -> dict[str, Any]:
    rows = [{"problem": f"What is {i}+{i}?", "answer": str(2 * i)} for i in range(3)]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": str(tiny_random_model),
        "benchmarks": [str(file)],
        "paths": [1, 2],
        "budget": 70,  # the plain model's chat template makes a prompt of 66 bytes and tokens
        "summary_tokens": 6,
        "temperature": 1.0,
        "latency_questions": 0,
    }


def rows_of(folder: Path) -> dict[str, int]:
    with RunStore(folder) as store:
        file: SqliteFile = store._file
        return dict(file.execute("SELECT key, rowid FROM generations"))


def test_methods_of_several_models_answer_the_same_questions(
    settings: dict[str, Any], plain_folder: Path, random_model: Any, tmp_path: Path
) -> None:
    other = random_model("qwen2", seed=4)
    methods = [
        "sequential",
        "parallel",
        f"sequential:model={plain_folder}",
        f"sequential:model={plain_folder},forced=true",
        f"majority:model={plain_folder}",
        f"parallel:model={plain_folder}",
        f"parallel:model={other},termination=last-finish",
    ]
    folder = tmp_path / "run"
    chosen = EvalSettings.from_mapping({**settings, "methods": methods, "latency_questions": 1})
    seen: list[str] = []
    left_out = run(chosen, folder, lambda what, *_: seen.append(what))
    assert left_out == [
        f"parallel:model={plain_folder}: base has no control tokens, so it cannot think in "
        "parallel; sequential, majority, confidence, likeliest, short and best work with it"
    ]
    assert seen.count(f"loading {plain_folder}") == 2, "begun once and done once"
    with RunStore(folder) as store:
        found = {(cell.method, cell.width, cell.question_id): one for cell, one in store.outcomes()}
        identities = store.fact("other models")
        asked = store.questions(settings["benchmarks"][0])
        chains = {
            key: store.generation(one.generations[0])
            for key, one in found.items()
            if key[0] == methods[2]
        }
        timed = {method for _, method, _, _ in store.latencies()}
    assert {method for method, _, _ in found} == {*methods} - {methods[5]} == timed
    assert len(found) == 6 * 2 * 3
    assert identities.keys() == {str(plain_folder), str(other)}
    # What was written is what that model writes, in its own chat template.
    model = thinker(plain_folder, plain=True)
    for (_, width, question_id), made in chains.items():
        question = next(one for one in asked if one.id == question_id)
        params = ThinkingParams(seed=0, temperature=1.0, max_path_tokens=width * 70)
        answer = model.complete(question.question, params)
        assert len(answer.prompt_token_ids) > len(model.encode(question.question))
        assert made is not None
        text = made.segments[0]
        assert text.token_ids[: width * 70] == tuple(answer.summary.token_ids)
    before = rows_of(folder)
    run(chosen, folder)
    assert rows_of(folder) == before


def test_a_model_that_was_changed_is_refused_and_another_one_may_join(
    settings: dict[str, Any], plain_folder: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(plain_folder, tmp_path / "base"))
    method = f"sequential:model={base}"
    chosen = EvalSettings.from_mapping({**settings, "methods": ["sequential", method]})
    run(chosen, tmp_path / "run")
    kept = (tmp_path / "run" / FILE).read_bytes()
    shutil.rmtree(base)
    save_plain_model(base, ending=4.0, chat_template=CHAT_TEMPLATE, seed=1)
    with pytest.raises(UsageError, match=rf"model={base}: base \w+ there, base \w+ now"):
        run(chosen, tmp_path / "run")
    assert (tmp_path / "run" / FILE).read_bytes() == kept
    run(EvalSettings.from_mapping({**settings, "methods": ["sequential"]}), tmp_path / "run")
    joined = [f"sequential:model={plain_folder}"]
    run(EvalSettings.from_mapping({**settings, "methods": joined}), tmp_path / "run")
    with pytest.raises(UsageError, match=f"model={base}"):
        run(chosen, tmp_path / "run")


def test_the_same_model_under_two_names_is_loaded_once(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    own = Path(settings["model"])
    methods = ["sequential", f"sequential:model={own}", f"sequential:model={own.parent / own.name}"]
    seen: list[str] = []
    chosen = EvalSettings.from_mapping({**settings, "methods": methods})
    run(chosen, tmp_path / "run", lambda what, *_: seen.append(what))
    assert {what for what in seen if what.startswith("loading")} == {"loading the model"}


def test_a_budget_has_to_fit_each_model(
    settings: dict[str, Any], plain_folder: Path, tmp_path: Path
) -> None:
    methods = ["sequential", f"sequential:model={plain_folder}"]
    small = {**settings, "methods": methods, "budget": 30}
    run(EvalSettings.from_mapping({**small, "methods": ["sequential"]}), tmp_path / "fits")
    with pytest.raises(UsageError, match=f"model={plain_folder}: budget 30 is smaller"):
        run(EvalSettings.from_mapping(small), tmp_path / "run")


def test_a_model_without_control_tokens_can_be_the_runs_own(
    settings: dict[str, Any], plain_folder: Path, tmp_path: Path
) -> None:
    methods = ["sequential", "majority", "parallel"]
    own = {**settings, "model": str(plain_folder), "methods": methods}
    left_out = run(EvalSettings.from_mapping(own), tmp_path / "run")
    assert len(left_out) == 1
    assert left_out[0].startswith("parallel: base has no control tokens")
    with pytest.raises(UsageError, match="no control tokens"):
        run(EvalSettings.from_mapping({**own, "methods": ["parallel"]}), tmp_path / "none")


def test_a_model_that_is_not_there_is_refused_before_anything_is_loaded(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[str] = []
    wrong = EvalSettings.from_mapping({**settings, "methods": ["sequential:model=no/where"]})
    with pytest.raises(CheckpointError, match="no/where"):
        run(wrong, tmp_path / "run", lambda what, *_: seen.append(what))
    assert seen == []


def test_what_older_runs_made_is_found_under_its_name(tiny_random_model: Path) -> None:
    how = Sampling("tiny 0123456789abcdef", 64, 8, 0.7, 0.95)
    lab = Lab(shared(tiny_random_model), how, Forgetful(), None)
    one = Case(QUESTION, QUESTION.question, 4, 64, 10, 3)
    params = lab._params(3, max_path_tokens=63, termination="last-finish", top_logprobs=20)
    assert lab._key("paths", one, params) == "98b6c296697336f8b7aa9792ff21a081"
    summed = lab._key("summary", one, lab._params(3), paths=[[1, 2]], layout="parallel")
    assert summed == "db6ccbd2d5605523db329cad7b97cf6f"
    lab.close()


def test_a_baseline_model_is_a_reference_and_no_termination_of_ours(tmp_path: Path) -> None:
    base = "majority:model=runs/base"
    write_run(
        tmp_path,
        {"parallel": (1, 1, 0), "parallel:model=other": (1, 0, 0), base: (0, 1, 0)},
        widths=(2,),
    )
    with RunStore(tmp_path) as store:
        paired = {(one.method, one.reference): one.comparison for one in Results(store).paired()}
        (standing,) = find(store, "run", "run").standings
    assert paired["parallel", base].difference == pytest.approx(1 / 3)
    assert paired.keys() == {
        ("parallel", base),
        ("parallel:model=other", base),
        ("parallel:model=other", "parallel"),
    }
    assert _terminations(standing) == {"first-finish": "parallel"}
    assert shown_name("majority:model=hub/some/base,keep=9") == "majority:model=base,keep=9"
