"""``parathinker data sample``: what it refuses, and how it fails."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from sampling import CommandLine, command, questions_file

from parathinker.data.samples import SampleStore
from teacher_server import (
    KEY,
    Asked,
    Reply,
    TeacherServer,
    error,
)


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


def test_other_settings_are_refused_and_the_store_is_left_alone(
    run: CommandLine, asked_for: Path, store: Path
) -> None:
    with TeacherServer() as server:
        assert run(*command(asked_for, store, server))[0] == 0
        code, _, errors = run(*command(asked_for, store, server, "--temperature", 1))
        assert code == 2
        assert "temperature: 0.8 there, 1.0 now" in errors
        assert len(server.asked) == 40


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
