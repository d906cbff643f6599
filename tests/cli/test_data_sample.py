"""``parathinker data sample`` and ``merge``: asked, paid for, sharded."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from sampling import CommandLine, command, held

from parathinker.data.samples import SampleStore, SamplingSettings
from parathinker.data.teacher.chat import Endpoint
from parathinker.data.teacher.job import SamplingJob
from parathinker.data.teacher.on_ray import run_shard, shards_of
from teacher_server import (
    COMPLETION_TOKENS,
    KEY,
    PROMPT_TOKENS,
    Asked,
    Reply,
    TeacherServer,
    completion,
    error,
    said,
    thought,
)


def test_every_question_gets_its_paths_and_a_rerun_asks_for_nothing(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer() as server:
        arguments = command(asked_for, store, server)
        code, output, errors = run(*arguments)
        assert code == 0
        assert "40 to ask for, of 10 questions" in errors
        assert "Done: 40 of 40 samples" in output
        code, output, errors = run(*arguments)
        assert code == 0
        assert "40 of 40 samples are there already; 0 to ask for" in errors
        assert len(server.asked) == 40
    with SampleStore(store) as there:
        texts = {question.id: question.question for question in there.questions()}
        for sample in there.samples():
            text = texts[sample.question_id]
            assert sample.reasoning == thought(text, sample.seed)
            assert sample.answer == said(text)
            assert server.counts()[text, sample.seed] == 1


def test_the_summary_counts_tokens_and_cost(run: CommandLine, asked_for: Path, store: Path) -> None:
    with TeacherServer() as server:
        code, output, _ = run(
            *command(asked_for, store, server, "--price-in", 2, "--price-out", 8, "--json")
        )
    summary = json.loads(output)
    assert code == 0
    assert summary["prompt_tokens"] == 40 * PROMPT_TOKENS
    assert summary["completion_tokens"] == 40 * COMPLETION_TOKENS
    assert summary["cost"] == pytest.approx(40 * (2 * PROMPT_TOKENS + 8 * COMPLETION_TOKENS) / 1e6)
    assert (summary["wanted"], summary["arrived"], summary["failed"]) == (40, 40, 0)
    assert summary["stopped"] is None


def test_a_limit_on_the_cost_stops_in_time_and_holds_for_reruns(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    each = 1000 * (PROMPT_TOKENS + COMPLETION_TOKENS) / 1e6
    prices = ("--price-in", 1000, "--price-out", 1000, "--concurrency", 2, "--json")
    with TeacherServer() as server:
        limited = command(asked_for, store, server, *prices, "--max-cost", 15 * each)
        for _ in range(2):
            code, output, _ = run(*limited)
            summary = json.loads(output)
            assert (code, summary["stopped"]) == (0, "max-cost")
            assert summary["cost"] <= 15 * each + 1e-9
            assert 12 <= len(server.asked) == summary["samples"] <= 15
        code, output, _ = run(*command(asked_for, store, server, *prices))
        assert (code, json.loads(output)["samples"]) == (0, 40)


def test_a_limit_on_the_cost_is_not_passed_where_nobody_says_what_an_answer_costs(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    def behave(asked: Asked) -> Reply:
        reply = completion(asked)
        del reply.body["usage"]
        return reply

    limit = ("--price-out", 1, "--max-cost", 5, "--concurrency", 1)
    with TeacherServer(behave) as server:
        code, _, errors = run(*command(asked_for, store, server, *limit))
    assert code == 1
    assert "does not say how many tokens" in errors
    assert len(held(store)) == 1
    assert len(server.asked) <= 2


def test_keys_come_from_the_environment_and_go_nowhere_but_to_their_endpoint(
    run: CommandLine, asked_for: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST_KEY", KEY)
    with TeacherServer(delay_s=0.02) as first, TeacherServer(delay_s=0.02) as second:
        arguments = command(asked_for, store, first, "--endpoint", f"{second.url}=other")
        code, output, errors = run(*arguments, "--api-key-env", "FIRST_KEY", "--api-key-env", "-")
        assert code == 0
    assert {asked.headers["authorization"] for asked in first.asked} == {f"Bearer {KEY}"}
    assert all(KEY not in asked.headers["authorization"] for asked in second.asked)
    assert {asked.body["model"] for asked in first.asked} == {"m"}
    assert {asked.body["model"] for asked in second.asked} == {"other"}
    for file in store.parent.iterdir():
        assert KEY.encode() not in file.read_bytes()
    assert KEY not in output + errors
    with SampleStore(store) as there:
        assert there.settings.models == ("m", "other")


def test_shards_merged_are_what_one_job_would_have_made(
    run: CommandLine, asked_for: Path, store: Path, tmp_path: Path
) -> None:
    shards = [tmp_path / f"shard-{number}.sqlite" for number in (1, 2, 3)]
    with TeacherServer() as server:
        for number, shard in enumerate(shards, 1):
            assert run(*command(asked_for, shard, server, "--shard", f"{number}/3"))[0] == 0
        merged = tmp_path / "merged.sqlite"
        code, output, _ = run("data", "merge", *shards, "-o", merged)
        assert code == 0
        assert "40 samples of 10 questions, 40 of them new" in output
        assert len(server.asked) == 40
        assert run(*command(asked_for, store, server))[0] == 0
        # What was merged goes on like any other store.
        assert "0 to ask for" in run(*command(asked_for, merged, server))[2]
    key = [(k, s.reasoning, s.answer, s.seed) for k, s in sorted(held(merged).items())]
    assert key == [(k, s.reasoning, s.answer, s.seed) for k, s in sorted(held(store).items())]
    with SampleStore(merged) as one, SampleStore(store) as other:
        assert list(one.questions()) == list(other.questions())


def test_the_model_itself_may_be_the_teacher(
    run: CommandLine, asked_for: Path, store: Path, letters_model: Path
) -> None:
    arguments = ("data", "sample", asked_for, "-o", store, "--engine", letters_model)
    arguments += ("--paths", 2, "--max-tokens", 8, "--threads", 1)
    assert run(*arguments)[0] == 0
    made = held(store)
    assert len(made) == 20
    assert all(sample.endpoint == str(letters_model) for sample in made.values())
    code, _, errors = run(*arguments)
    assert (code, held(store)) == (0, made)
    assert "20 of 20 samples are there already" in errors


def test_what_a_task_of_ray_does_works_on_another_machine(asked_for: Path, store: Path) -> None:
    with TeacherServer() as server:
        settings = SamplingSettings(("m",), paths=1)
        job = SamplingJob(asked_for, store, settings, (Endpoint(server.url, "m"),))
        jobs = pickle.loads(pickle.dumps(shards_of(job, 2)))
        rows = [run_shard({"shard": number}, jobs) for number in range(2)]
        assert sum(json.loads(row["summary"])["arrived"] for row in rows) == 10
        server.behave = lambda asked: error(401, "who are you?")
        more = shards_of(dataclasses.replace(job, settings=SamplingSettings(("m",), paths=2)), 2)
        row = run_shard({"shard": 1}, more)
    assert "shard 2/2" in row["error"]
    assert "who are you?" in row["error"]


@pytest.mark.parametrize("name", ["sample", "merge"])
def test_help_has_an_example(run: CommandLine, name: str) -> None:
    code, output, _ = run("data", name, "--help")
    assert code == 0
    assert f"parathinker data {name}" in output
