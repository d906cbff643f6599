"""``parathinker data sample``: killed, stopped, resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from sampling import CommandLine, command, held, questions_file, start

from parathinker.data.schema import question_id
from parathinker.errors import UsageError
from teacher_server import (
    Reply,
    TeacherServer,
)


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
