"""A sampling job: its budget, its shards, and how it shows."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from parathinker.data.samples import Failure, Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Question, question_id, write_questions
from parathinker.data.teacher.chat import Endpoint
from parathinker.data.teacher.job import Prices, SamplingJob, Tally, run_job
from parathinker.data.teacher.on_ray import shards_of
from parathinker.data.teacher.progress import duration, pace, watching
from parathinker.errors import UsageError
from teacher_server import TeacherServer

QUESTIONS = [Question(question_id(text), text) for text in map("What is {}?".format, range(12))]


@pytest.fixture
def job(tmp_path: Path) -> SamplingJob:
    """Twelve questions, two paths each; the endpoint is filled in by who runs it."""
    file = tmp_path / "questions.jsonl"
    write_questions(file, QUESTIONS)
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m")
    settings = SamplingSettings(("m",), paths=2)
    return SamplingJob(file, tmp_path / "samples.sqlite", settings, (endpoint,))


def at(job: SamplingJob, server: TeacherServer, **changes: object) -> SamplingJob:
    fields = {**vars(job), "endpoints": (Endpoint(server.url, "m"),), **changes}
    return SamplingJob(**fields)  # type: ignore[arg-type]


def tally(prices: Prices, arrived: int = 0, asked: int = 0) -> Tally:
    """Samples so far cost one each."""
    made = Tally(10, 80, 0, prices, arrived, 0, arrived=arrived, asked=asked)
    made.seconds = 2.0
    return made


def test_another_sample_is_afforded_while_it_fits_into_the_limit() -> None:
    prices = Prices(1e6, 0.0, most=10.0)
    assert tally(prices).can_afford_another()
    assert tally(prices, arrived=5, asked=4).can_afford_another()
    assert not tally(prices, arrived=5, asked=5).can_afford_another()
    assert not tally(prices, arrived=10).can_afford_another()
    assert tally(Prices(1e6), arrived=1000, asked=1000).can_afford_another()


def test_a_limit_without_prices_is_refused() -> None:
    with pytest.raises(UsageError, match="--price-in and --price-out"):
        Prices(most=1.0)


def test_shards_divide_the_questions_and_the_budget(job: SamplingJob) -> None:
    with TeacherServer() as server:
        jobs = shards_of(at(job, server, prices=Prices(1.0, 1.0, most=8.0)), 4)
        assert {one.prices.most for one in jobs} == {2.0}
        assert [one.output.name for one in jobs] == [
            f"samples.{i}-of-4.sqlite" for i in range(1, 5)
        ]
        watched = Lines()
        samples = [run_job(one, watched).arrived for one in jobs]
    assert sum(samples) == len(server.asked) == 24
    ids: list[str] = []
    for one in jobs:
        with SampleStore(one.output) as store:
            ids += [question.id for question in store.questions()]
    assert sorted(ids) == sorted(question.id for question in QUESTIONS)


class Lines:
    """Looks on."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.arrived: list[int] = []

    def update(self, tally: Tally) -> None:
        self.arrived.append(tally.arrived)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_whoever_looks_on_hears_of_the_beginning_and_of_every_sample(job: SamplingJob) -> None:
    watched = Lines()
    with TeacherServer() as server:
        run_job(at(job, server), watched)
    assert sorted(set(watched.arrived)) == list(range(25))


def test_whoever_looks_on_hears_of_a_job_in_which_nothing_arrives(
    job: SamplingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parathinker.data.teacher.job.TICK_S", 0.02)
    watched = Lines()
    with TeacherServer(delay_s=0.3) as server:
        run_job(at(job, server, settings=SamplingSettings(("m",), paths=1)), watched)
    assert watched.arrived.count(0) >= 3


def test_a_job_runs_in_any_thread(job: SamplingJob) -> None:
    done: list[Tally] = []
    with TeacherServer() as server:
        mine = at(job, server)
        thread = threading.Thread(target=lambda: done.append(run_job(mine, Lines())))
        thread.start()
        thread.join(30)
    assert done[0].arrived == 24


def test_a_file_without_questions_is_refused(job: SamplingJob) -> None:
    job.questions.write_text("")
    with pytest.raises(UsageError, match="holds no questions"):
        run_job(job, Lines())


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_rates_cost_failures_and_what_is_left(terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=140, _environ={})
    now = tally(Prices(1e6))
    with watching(console, every_s=0.0) as watch:
        watch.update(now)
        watch.note("http://host: [trouble]")
        sample = Sample("q", 0, "", "", "stop", "m", "e", 1, 500, 0.1, None)
        for _ in range(8):
            now.take(sample)
        now.take(Failure("q", 1, "no"))
        now.seconds = 2.0
        watch.update(now)
    shown = screen.getvalue()
    assert "80 to ask for, of 10 questions" in shown
    assert "http://host: [trouble]" in shown
    assert "18 s left · 4.00 samples/s · 2,000 tokens/s · cost 8.00" in shown
    assert "cost 8.00 of about 79.00 · 1 failed" in " ".join(shown.split())
    assert "9/80" in shown or "9 of 80" in shown


def test_while_nothing_has_arrived_progress_says_so() -> None:
    assert pace(tally(Prices(), asked=9)) == "9 asked for, none here yet after 2 s"


def test_durations_are_easy_to_read() -> None:
    assert [duration(s) for s in (0.4, 59, 60, 3599, 7500)] == [
        "0 s", "59 s", "1 min", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
