"""``parathinker data sample`` and ``merge``: killed, stopped, resumed, sharded, paid for."""

from __future__ import annotations

import dataclasses
import json
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from parathinker.data.samples import SampleStore, SamplingSettings
from parathinker.data.schema import Question, question_id, write_questions
from parathinker.data.teacher.chat import Endpoint
from parathinker.data.teacher.job import SamplingJob
from parathinker.data.teacher.on_ray import run_shard, shards_of
from parathinker.errors import UsageError
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

CommandLine = Callable[..., tuple[int, str, str]]
PATHS = 4


@pytest.fixture
def asked_for(tmp_path: Path) -> Path:
    """Ten questions in a file."""
    return questions_file(tmp_path / "questions.jsonl", 10)


def questions_file(file: Path, count: int) -> Path:
    texts = [f"What is {number}?" for number in range(count)]
    write_questions(file, [Question(question_id(text), text) for text in texts])
    return file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "samples.sqlite"


def command(questions: Path, store: Path, server: TeacherServer, *more: object) -> list[str]:
    options = ("--endpoint", server.url, "--model", "m", "--paths", PATHS, *more)
    return ["data", "sample", str(questions), "-o", str(store), *map(str, options)]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "parathinker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def held(store: Path) -> dict[tuple[str, int], Any]:
    with SampleStore(store) as there:
        return {(one.question_id, one.index): one for one in there.samples()}


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


def test_after_sigkill_a_rerun_asks_for_what_is_missing_and_for_nothing_that_arrived(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer(delay_s=0.03) as server:
        arguments = command(asked_for, store, server, "--concurrency", 3)
        process = start(arguments)
        server.wait_for(20)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        arrived, before = held(store), server.counts()
        assert 10 <= len(arrived) < 40
        assert run(*arguments)[0] == 0
        now = server.counts()
    everything = held(store)
    assert len(everything) == 40
    seeds = {(one.question_id, one.seed) for one in arrived.values()}
    repeated = 0
    for (text, seed), count in now.items():
        if (question_id(text), seed) in seeds:
            assert count == 1
        else:
            # Only what was under way when the job was killed may have been asked before.
            repeated += count - 1
            assert count == 1 + before[text, seed]
    assert repeated <= 3
    assert all(everything[key] == sample for key, sample in arrived.items())


@pytest.mark.slow
def test_killed_again_and_again_with_two_endpoints_it_loses_and_repeats_nothing_that_arrived(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer(delay_s=0.03) as first, TeacherServer(delay_s=0.05) as second:
        arguments = command(asked_for, store, first, "--concurrency", 2)
        arguments += ["--endpoint", second.url]

        def asked() -> Counter[tuple[str, int | None]]:
            return first.counts() + second.counts()

        for moment in (1, 9, 10, 24, 37):
            before, kept = asked(), held(store) if store.exists() and moment > 1 else {}
            process = start(arguments)
            end = time.monotonic() + 60
            while asked().total() < before.total() + 1 or asked().total() < moment:
                assert time.monotonic() < end
                time.sleep(0.002)
            process.kill()
            process.communicate()
            there = held(store)
            assert {key: there[key] for key in kept} == kept
            seeds = {(one.question_id, one.seed) for one in kept.values()}
            assert all((question_id(text), seed) not in seeds for text, seed in asked() - before)
        assert run(*arguments)[0] == 0
        # What was under way at a kill was asked again: at most four requests, five times.
        assert 40 <= asked().total() <= 40 + 5 * 4
    assert len(held(store)) == 40


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_what_is_under_way_arrive_and_starts_nothing_new(
    asked_for: Path, store: Path, number: signal.Signals, code: int
) -> None:
    with TeacherServer(delay_s=0.3) as server:
        process = start(command(asked_for, store, server, "--concurrency", 4, "--json"))
        server.wait_for(6)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in errors
        assert len(held(store)) == len(server.asked) < 40
        summary = json.loads(output)
    assert summary["stopped"] == number.name
    assert summary["left"] == 40 - summary["samples"] == 40 - len(server.asked)


def test_a_second_signal_stops_at_once(asked_for: Path, store: Path) -> None:
    with TeacherServer(lambda asked: Reply(delay_s=60)) as server:
        process = start(command(asked_for, store, server))
        server.wait_for(16)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130
        process.communicate()


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


def test_refused_questions_are_told_kept_and_asked_again_on_request(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    def behave(asked: Asked) -> Reply | None:
        return error(400, "not about that") if asked.question == "What is 3?" else None

    with TeacherServer(behave) as server:
        code, output, _ = run(*command(asked_for, store, server))
        assert code == 0
        assert "36 of 40 samples" in output
        assert "4 failed (--retry-failed asks for them again)" in output
        assert "4 failed: HTTP 400: not about that" in output
        with SampleStore(store) as there:
            assert {failure.message for failure in there.failures()} == {"HTTP 400: not about that"}
        asked = len(server.asked)
        assert "4 failed before" in run(*command(asked_for, store, server))[2]
        assert len(server.asked) == asked
        server.behave = lambda asked: None
        assert "40 of 40" in run(*command(asked_for, store, server, "--retry-failed"))[1]


def test_nothing_but_failures_is_a_failure(run: CommandLine, tmp_path: Path, store: Path) -> None:
    with TeacherServer(lambda asked: error(400, "no")) as server:
        few = questions_file(tmp_path / "few.jsonl", 2)
        assert run(*command(few, store, server))[0] == 1


def test_a_wrong_key_stops_the_job_with_one_clear_line(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer(lambda asked: error(401, "who are you?")) as server:
        code, output, errors = run(*command(asked_for, store, server))
    assert (code, output) == (1, "")
    assert "who are you?" in errors
    assert "Traceback" not in errors


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


def test_a_key_on_the_command_line_is_refused_without_repeating_it(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer() as server:
        code, output, errors = run(*command(asked_for, store, server, "--api-key-env", KEY))
        assert code == 2
        assert KEY not in output + errors
        code, _, errors = run(*command(asked_for, store, server, "--api-key-env", "NOT_SET_AT_ALL"))
        assert code == 2
        assert "NOT_SET_AT_ALL" in errors
        assert server.asked == []


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


def test_other_settings_are_refused_and_the_store_is_left_alone(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer() as server:
        assert run(*command(asked_for, store, server))[0] == 0
        code, _, errors = run(*command(asked_for, store, server, "--temperature", 1))
        assert code == 2
        assert "temperature: 0.8 there, 1.0 now" in errors
        assert len(server.asked) == 40


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


@pytest.mark.slow
def test_a_killed_job_of_the_engine_ends_with_the_samples_of_one_that_was_not(
    run: CommandLine, tmp_path: Path, store: Path, letters_model: Path
) -> None:
    many = questions_file(tmp_path / "many.jsonl", 120)

    def arguments(output: Path) -> list[str]:
        more = ("--engine", letters_model, "--paths", 2, "--max-tokens", 24, "--concurrency", 2)
        return ["data", "sample", *map(str, (many, "-o", output, *more, "--threads", 1))]

    for at_least in (10, 80):
        process = start(arguments(store))
        while process.poll() is None and (not store.exists() or len_of(store) < at_least):
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert at_least <= len_of(store) < 240
    assert run(*arguments(store))[0] == 0
    assert run(*arguments(tmp_path / "whole.sqlite"))[0] == 0
    texts = [
        {key: (one.reasoning, one.seed, one.finish_reason) for key, one in held(there).items()}
        for there in (store, tmp_path / "whole.sqlite")
    ]
    assert len(texts[0]) == 240
    assert texts[0] == texts[1]


def len_of(store: Path) -> int:
    try:
        return len(held(store))
    except UsageError:  # it is just being made
        return 0


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ((), "say whom to ask"),
        (("--engine", "tiny", "--endpoint", "http://host/v1"), "say whom to ask"),
        (("--engine", "tiny", "--model", "m"), "--model and --api-key-env go with --endpoint"),
        (("--endpoint", "http://host/v1"), "which model at http://host/v1"),
        (("--endpoint", "host/v1", "--model", "m"), "an endpoint should look like"),
        (("--endpoint", "http://h/v1=m", "--endpoint", "http://h/v1=m"), "given twice"),
        (("--endpoint", "http://h/v1=m", "--api-key-env", "A", "--api-key-env", "B"), "got 2"),
        (("--endpoint", "http://h/v1=m", "--temperature", "-1"), "temperature should be"),
        (("--endpoint", "http://h/v1=m", "--prompt", "x"), "{question}"),
        (("--endpoint", "http://h/v1=m", "--extra", "[1]"), "JSON object"),
        (("--endpoint", "http://h/v1=m", "--extra", "{"), "JSON object"),
        (("--endpoint", "http://h/v1=m", "--extra", '{"n": 4}'), "may not set"),
        (("--endpoint", "http://h/v1=m", "--shard", "3"), "3/16"),
        (("--endpoint", "http://h/v1=m", "--shard", "1/2", "--ray", "2"), "not both"),
        (("--endpoint", "http://h/v1=m", "--max-cost", "3"), "--price-in and --price-out"),
        (("--endpoint", "http://h/v1=m", "--concurrency", "5000"), "from 1 to 1000"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    run: CommandLine, asked_for: Path, store: Path, more: tuple[str, ...], complaint: str
) -> None:
    code, output, errors = run("data", "sample", asked_for, "-o", store, *more)
    assert (code, output) == (2, "")
    assert complaint in " ".join(errors.split())
    assert not store.exists()


def test_questions_that_are_not_there_are_named(run: CommandLine, store: Path) -> None:
    with TeacherServer() as server:
        code, _, errors = run(*command(Path("nowhere.jsonl"), store, server))
    assert code == 2
    assert "nowhere.jsonl" in errors
    assert not store.exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_where_it_is_not_installed_says_what_to_install(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer() as server:
        code, _, errors = run(*command(asked_for, store, server, "--ray", 2))
    assert code == 1
    assert "pip install 'parathinker[ray]'" in errors


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
