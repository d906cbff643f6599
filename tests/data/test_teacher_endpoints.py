"""Endpoints that answer, are slow or busy, break, refuse or vanish: what becomes of the samples."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import time
from collections.abc import Callable

import pytest

from parathinker.data.samples import Failure, Sample, SamplingSettings
from parathinker.data.schema import Question, question_id
from parathinker.data.teacher.asking import Ask, TeacherError, seed_of
from parathinker.data.teacher.chat import Endpoint
from parathinker.data.teacher.endpoints import EndpointTeacher, Patience
from teacher_server import KEY, Asked, Reply, TeacherServer, completion, error, said, thought

SETTINGS = SamplingSettings(models=("m",), paths=2)
QUICK = Patience(20.0, retries=0, rest_s=0.02, first_answer_s=0.3, give_up_s=0.6)


def question(number: int) -> Question:
    text = f"What is {number}?"
    return Question(question_id(text), text)


def asks(questions: int, paths: int = 2) -> list[Ask]:
    return [
        Ask(one, index, seed_of(0, one.id, index))
        for one in map(question, range(questions))
        for index in range(paths)
    ]


class Run:
    """A teacher's run, and what came of it.

    Args:
        until: called with what has arrived so far, after every arrival; true stops the teacher.
    """

    def __init__(
        self,
        urls: list[str],
        wanted: list[Ask],
        patience: Patience = QUICK,
        concurrency: int = 4,
        settings: SamplingSettings = SETTINGS,
        key_variable: str | None = None,
        until: Callable[[list[Sample | Failure]], bool] = lambda arrived: False,
    ) -> None:
        self.outcomes: list[Sample | Failure] = []
        self.notes: list[str] = []
        self.error: TeacherError | None = None
        self._until = until
        endpoints = [Endpoint(url, "m", key_variable) for url in urls]
        self._teacher = EndpointTeacher(
            endpoints, settings, concurrency, patience, self.notes.append
        )
        try:
            asyncio.run(self._go(wanted))
        except TeacherError as stopped:
            self.error = stopped

    async def _go(self, wanted: list[Ask]) -> None:
        stop = asyncio.Event()
        async for outcome in self._teacher.outcomes(iter(wanted), stop):
            self.outcomes.append(outcome)
            if self._until(self.outcomes):
                stop.set()

    @property
    def samples(self) -> list[Sample]:
        return [one for one in self.outcomes if isinstance(one, Sample)]

    @property
    def failures(self) -> list[Failure]:
        return [one for one in self.outcomes if isinstance(one, Failure)]


def keys(outcomes: list[Sample] | list[Failure] | list[Ask]) -> list[tuple[str, int]]:
    return sorted(
        (one.question.id if isinstance(one, Ask) else one.question_id, one.index)
        for one in outcomes
    )


@pytest.mark.parametrize(
    "style", ["reasoning", "reasoning_content", "think", "unopened", "harmony", "parts"]
)
def test_samples_hold_what_was_thought_and_what_was_said(style: str) -> None:
    with TeacherServer(lambda asked: completion(asked, style)) as server:
        run = Run([server.url], asks(2))
    assert keys(run.samples) == keys(asks(2))
    for sample in run.samples:
        text = next(a.question.question for a in asks(2) if a.question.id == sample.question_id)
        assert sample.seed == seed_of(0, sample.question_id, sample.index)
        assert sample.reasoning == thought(text, sample.seed)
        assert sample.answer == said(text)
        assert (sample.model, sample.endpoint) == ("m", server.url)
        assert (sample.prompt_tokens, sample.completion_tokens) == (10, 20)
        assert 0 < sample.seconds < 20


def test_a_thought_that_ran_out_of_tokens_says_so() -> None:
    with TeacherServer(lambda asked: completion(asked, "unclosed", "length")) as server:
        (sample,) = Run([server.url], asks(1, 1)).samples
    assert (sample.answer, sample.finish_reason) == ("", "length")
    assert sample.reasoning


def test_a_request_asks_for_one_completion_with_what_the_settings_say() -> None:
    settings = SamplingSettings(
        models=("m",),
        temperature=0.7,
        top_p=0.9,
        max_tokens=50,
        system_prompt="Think.",
        prompt="Q: {question}",
        extra={"top_k": 3, "reasoning_effort": "high"},
    )
    with TeacherServer() as server:
        Run([server.url], asks(1), settings=settings)
    first, second = sorted(server.asked, key=lambda asked: asked.seed or 0)
    assert first.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "Q: What is 0?"},
        ],
        "n": 1,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": first.seed,
        "top_k": 3,
        "reasoning_effort": "high",
    }
    assert first.seed != second.seed


def test_what_is_left_open_is_left_out_of_the_request() -> None:
    with TeacherServer() as server:
        Run([server.url], [Ask(question(0), 0, None)])
    assert server.asked[0].body.keys() == {"model", "messages", "n", "temperature"}


def test_as_many_requests_run_at_once_as_were_asked_for_and_no_more() -> None:
    with TeacherServer(delay_s=0.05) as server:
        run = Run([server.url], asks(10), concurrency=5)
    assert len(run.samples) == 20
    assert server.most_at_once == 5


def test_work_goes_to_the_endpoint_that_is_free() -> None:
    with TeacherServer(delay_s=0.3) as slow, TeacherServer(delay_s=0.01) as quick:
        run = Run([slow.url, quick.url], asks(20), concurrency=2)
    assert len(run.samples) == 40
    assert 1 <= len(slow.asked) < len(quick.asked)


def test_an_endpoint_that_fails_rests_while_the_others_go_on_and_is_tried_again() -> None:
    with TeacherServer() as first, TeacherServer(delay_s=0.05) as second:
        first.behave = lambda asked: error(503, "loading") if len(first.asked) <= 5 else None
        run = Run([first.url, second.url], asks(25), concurrency=2)
    assert keys(run.samples) == keys(asks(25))
    assert {sample.endpoint for sample in run.samples} == {first.url, second.url}
    assert "503: loading" in run.notes[0]
    # Two at a time; it rested for 0.02 s, then for twice as long.
    came = [asked.at for asked in first.asked]
    assert came[2] - came[0] > 0.02
    assert came[4] - came[2] > 0.04


def test_an_endpoint_that_dies_in_the_middle_of_a_job_leaves_its_work_to_the_others() -> None:
    with TeacherServer(delay_s=0.01) as dying, TeacherServer(delay_s=0.01) as other:

        def until(arrived: list[Sample | Failure]) -> bool:
            if len(arrived) == 12:
                dying.die()
            return False

        run = Run([dying.url, other.url], asks(20), concurrency=3, until=until)
    assert run.error is None
    assert keys(run.samples) == keys(asks(20))
    assert {sample.endpoint for sample in run.samples[:12]} == {dying.url, other.url}
    # Those of its answers that had just come when it died may follow.
    assert {sample.endpoint for sample in run.samples[18:]} == {other.url}
    assert dying.url in run.notes[0]


def test_when_nobody_answers_the_job_stops_and_says_who_failed_how() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    with TeacherServer(lambda asked: error(500, "out of order")) as server:
        run = Run([nobody, server.url], asks(50))
    assert run.error is not None
    assert f"{nobody}: no connection" in str(run.error)
    assert f"{server.url}: HTTP 500: out of order" in str(run.error)


def test_nobody_is_waited_for_longer_than_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    began = time.monotonic()
    run = Run([nobody], asks(2), Patience(20.0, retries=0, rest_s=0.02, give_up_s=0.1))
    assert "no connection" in str(run.error)
    assert time.monotonic() - began < 10  # not the 20 s that an endpoint has by default


def test_what_arrived_before_nobody_answered_is_kept() -> None:
    with TeacherServer() as server:
        server.behave = lambda asked: Reply(drop=True) if len(server.asked) > 6 else None
        run = Run([server.url], asks(10), concurrency=1)
    assert len(run.samples) == 6
    assert run.error is not None


@pytest.mark.parametrize(
    "first",
    [
        error(500, "oh"),
        error(429, "slow down"),
        error(408, "late"),
        error(409, "locked"),
        Reply(drop=True),
    ],
)
def test_what_may_work_next_time_is_tried_again(first: Reply) -> None:
    with TeacherServer(lambda asked: None if asked.before else first) as server:
        run = Run([server.url], asks(1, 1), Patience(retries=1))
    assert len(run.samples) == 1
    # The client does so by itself, half a second later, less up to a quarter.
    assert 0.3 < server.asked[1].at - server.asked[0].at < 6
    assert run.notes == []


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date: bool) -> None:
    began = time.time()

    def behave(asked: Asked) -> Reply | None:
        # A date has whole seconds, so it is at least one second from now.
        when = email.utils.formatdate(int(began) + 2, usegmt=True) if as_date else "1.2"
        return None if asked.before else error(429, "slow down", {"Retry-After": when})

    with TeacherServer(behave) as server:
        run = Run([server.url], asks(1, 1), Patience(retries=1))
        first, second = (asked.at for asked in server.asked)
    assert len(run.samples) == 1
    if as_date:
        assert time.time() >= int(began) + 2
    else:
        assert 1.2 <= second - first < 6


def test_a_long_retry_after_rests_the_endpoint_and_others_take_its_work() -> None:
    busy = error(429, "come back later", {"Retry-After": "3600"})
    with TeacherServer(lambda asked: busy) as first, TeacherServer() as second:
        run = Run([first.url, second.url], asks(10), Patience(retries=5), concurrency=2)
    assert keys(run.samples) == keys(asks(10))
    assert len(first.asked) == 2
    assert "come back later; asked again in 3600 s" in run.notes[0]


def test_a_retry_after_beyond_all_patience_stops_the_job() -> None:
    busy = error(429, "come back tomorrow", {"Retry-After": "86400"})
    with TeacherServer(lambda asked: busy) as server:
        run = Run([server.url], asks(10), Patience(retries=5))
    assert "come back tomorrow" in str(run.error)
    assert run.outcomes == []


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [(error(500, "bad template"), "500: bad template"), (Reply(drop=True), "connection broke")],
)
def test_a_question_that_always_breaks_the_endpoint_is_given_up_and_the_others_arrive(
    reply: Reply, complaint: str
) -> None:
    with TeacherServer(lambda asked: reply if "3" in asked.question else None) as server:
        run = Run([server.url], asks(10))
    assert run.error is None
    assert keys(run.failures) == [(question(3).id, 0), (question(3).id, 1)]
    assert all(complaint in failure.message for failure in run.failures)
    assert len(run.samples) == 18


def test_a_path_that_takes_too_long_is_given_up_and_the_others_arrive() -> None:
    def behave(asked: Asked) -> Reply | None:
        return Reply(delay_s=5.0) if asked.question == "What is 0?" else None

    with TeacherServer(behave, delay_s=0.01) as server:
        run = Run([server.url], asks(5, 1), Patience(timeout_s=0.5, retries=0, rest_s=0.02))
    assert [failure.message for failure in run.failures] == ["no answer in time"]
    assert len(run.samples) == 4


def test_a_refused_question_fails_at_once_with_what_was_said_about_it() -> None:
    def behave(asked: Asked) -> Reply | None:
        return error(400, "not about that") if asked.question == "What is 1?" else None

    with TeacherServer(behave) as server:
        run = Run([server.url], asks(5, 4), concurrency=1)
    assert keys(run.failures) == [(question(1).id, index) for index in range(4)]
    assert {failure.message for failure in run.failures} == {"HTTP 400: not about that"}
    assert len(run.samples) == 16
    # Neither again nor for the question's other paths.
    assert sum(asked.question == "What is 1?" for asked in server.asked) == 1
    assert run.notes == []


def test_a_model_that_declines_fails_that_path_alone() -> None:
    def behave(asked: Asked) -> Reply | None:
        reply = completion(asked)
        if asked.seed == asks(1)[0].seed:
            reply.body["choices"][0]["message"] = {"content": None, "refusal": "I would rather not"}
        return reply

    with TeacherServer(behave) as server:
        run = Run([server.url], asks(3), concurrency=1)
    assert run.failures == [Failure(question(0).id, 0, "I would rather not")]
    assert keys(run.samples) == keys(asks(3)[1:])


def test_when_every_question_is_refused_it_is_the_request_and_no_question_is_blamed() -> None:
    with TeacherServer(lambda asked: error(400, "seed is not supported")) as server:
        run = Run([server.url], asks(50))
    assert "seed is not supported" in str(run.error)
    assert run.outcomes == []
    assert len(server.asked) < 20


def test_few_questions_that_are_all_refused_fail() -> None:
    with TeacherServer(lambda asked: error(400, "no")) as server:
        assert keys(Run([server.url], asks(3)).failures) == keys(asks(3))


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (error(401, "bad key"), "--api-key-env"),
        (error(403, "not for you"), "not for you"),
        (error(404, "no such model"), "model's name"),
        (error(402, "account is empty"), "account is empty"),
        (error(429, "quota", code="insufficient_quota"), "quota"),
    ],
)
def test_what_no_question_can_help_stops_the_job_at_once(reply: Reply, hint: str) -> None:
    with TeacherServer(lambda asked: reply) as server:
        run = Run([server.url], asks(50))
    assert hint in str(run.error)
    assert server.url in str(run.error)
    assert run.outcomes == []
    assert len(server.asked) <= 4


def test_403_for_one_question_among_others_is_a_refusal() -> None:
    flagged = error(403, "flagged")
    with TeacherServer(lambda asked: flagged if "4" in asked.question else None) as server:
        run = Run([server.url], asks(6), concurrency=1)
    assert run.error is None
    assert {failure.message for failure in run.failures} == {"HTTP 403: flagged"}


def test_the_key_is_sent_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)

    with TeacherServer(lambda asked: error(401, f"the key {KEY} is unknown")) as server:
        run = Run([server.url], asks(1), key_variable="SOME_KEY")
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "the key *** is unknown" in str(run.error)
    assert KEY not in repr(vars(run))


@pytest.mark.parametrize(
    "body",
    [
        "<html>Bad gateway</html>",
        '{"choices": [',
        {"choices": []},
        {"choices": None},
        {"error": {"message": "overloaded"}},
        [],
        None,
        {"choices": [{"message": None}]},
    ],
)
def test_an_answer_that_is_none_is_asked_again(body: object) -> None:
    with TeacherServer(lambda asked: None if asked.before else Reply(body)) as server:
        run = Run([server.url], asks(1))
    assert len(run.samples) == 2
    assert "no chat completion" in run.notes[0]


def test_an_answer_without_usage_counts_no_tokens() -> None:
    def behave(asked: Asked) -> Reply:
        reply = completion(asked)
        reply.body["usage"] = None
        return reply

    with TeacherServer(behave) as server:
        (sample,) = Run([server.url], asks(1, 1)).samples
    assert (sample.prompt_tokens, sample.completion_tokens) == (0, 0)


def test_stopping_lets_nothing_new_start_and_keeps_what_arrives() -> None:
    with TeacherServer(delay_s=0.1) as server:
        run = Run([server.url], asks(50), until=lambda arrived: len(arrived) >= 5)
    assert 5 <= len(run.samples) == len(server.asked) <= 9


def test_stopping_does_not_wait_for_what_takes_long() -> None:
    slow = Reply(delay_s=60)
    with TeacherServer(lambda asked: slow if "0" in asked.question else None) as server:
        began = time.monotonic()
        enough = lambda arrived: len(arrived) >= 3  # noqa: E731
        run = Run([server.url], asks(5), Patience(grace_s=0.3), until=enough)
        assert 0.3 < time.monotonic() - began < 10
    assert len(run.samples) >= 3
