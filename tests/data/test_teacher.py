"""A teacher's parts: reasoning told from answers, shards, seeds, endpoints, our own engine."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker import ParaThinker, ThinkingParams
from parathinker.data.samples import Failure, Sample, SamplingSettings
from parathinker.data.schema import Question, question_id
from parathinker.data.teacher.asking import Ask, TeacherError, seed_of
from parathinker.data.teacher.chat import Endpoint, retry_after
from parathinker.data.teacher.engine import EngineTeacher
from parathinker.data.teacher.reasoning import FIELDS, split_reasoning
from parathinker.data.teacher.shards import Shard
from parathinker.errors import UsageError
from teacher_server import message
from thinkers import thinker

MARKS = ("<think>", "</think>", "<|")
TEXTS = st.text().map(str.strip).filter(lambda text: not any(mark in text for mark in MARKS))
SOME = TEXTS.filter(bool)


@pytest.mark.parametrize("style", [*FIELDS, "think", "unopened", "harmony", "parts"])
@given(reasoning=SOME, answer=TEXTS)
def test_reasoning_and_answer_are_told_apart_in_every_style(
    style: str, reasoning: str, answer: str
) -> None:
    assert split_reasoning(message(style, reasoning, answer)) == (reasoning, answer)


@given(reasoning=SOME, answer=TEXTS)
def test_what_is_never_closed_is_all_reasoning(reasoning: str, answer: str) -> None:
    assert split_reasoning(message("unclosed", reasoning, answer)) == (reasoning, "")


@given(answer=TEXTS)
def test_without_any_marks_all_is_answer(answer: str) -> None:
    assert split_reasoning({"content": answer}) == ("", answer)


@given(
    before=SOME,
    words=st.lists(SOME, max_size=3),
    cut=st.integers(0, 200),
)
def test_harmony_that_was_cut_off_anywhere_gives_the_beginning(
    before: str, words: list[str], cut: int
) -> None:
    # Marks are tokens of their own, so they are there as a whole or not at all.
    tokens = ["<|channel|>", *"analysis", "<|message|>", *before]
    for channel, text in zip(("analysis", "commentary", "analysis"), words, strict=False):
        tokens += ["<|end|>", "<|start|>", *"assistant", "<|channel|>", *channel]
        tokens += ["<|message|>", *text]
    content = "".join(tokens[: max(1, len(tokens) - cut)])
    reasoning, answer = split_reasoning({"content": content})
    assert answer == ""
    assert "\n\n".join([before, *words]).startswith(reasoning)


def test_harmony_without_its_marks_is_told_by_its_words() -> None:
    content = "analysisWe add: 6 * 7. In the final step, 42.assistantfinalIt is 42."
    parts = ("We add: 6 * 7. In the final step, 42.", "It is 42.")
    assert split_reasoning({"content": content}) == parts
    said = "analysis shows that it is 42, finally"
    assert split_reasoning({"content": said}) == ("", said)


def test_harmony_calls_and_preambles_are_reasoning() -> None:
    content = (
        "<|start|>assistant<|channel|>analysis<|message|>First.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json"
        '<|message|>{"a": 1}<|call|>'
        "<|start|>assistant<|channel|>final<|message|>Two.<|return|>"
    )
    assert split_reasoning({"content": content}) == ('First.\n\n{"a": 1}', "Two.")


@given(
    st.dictionaries(
        st.sampled_from(["content", "role", *FIELDS]),
        st.recursive(
            st.none() | st.integers() | st.text() | st.sampled_from(MARKS),
            lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["type", "text"]), part),
            max_leaves=5,
        ),
    )
)
def test_whatever_a_message_holds_it_is_read(raw: dict[str, object]) -> None:
    reasoning, answer = split_reasoning(raw)
    assert reasoning == reasoning.strip()
    assert answer == answer.strip()


@given(ids=st.lists(st.text(min_size=1)), of=st.integers(1, 20))
def test_every_question_is_in_exactly_one_shard(ids: list[str], of: int) -> None:
    shards = [Shard.parse(f"{number}/{of}") for number in range(1, of + 1)]
    for one in ids:
        assert sum(shard.takes(one) for shard in shards) == 1


def test_shards_are_about_equally_large() -> None:
    ids = [question_id(f"What is {number}?") for number in range(4000)]
    sizes = [sum(Shard(number, 4).takes(one) for one in ids) for number in range(1, 5)]
    assert all(900 < size < 1100 for size in sizes)


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "a/b", "1/2/3", "-1/4"])
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a shard should"):
        Shard.parse(text)


@given(base=st.integers(0, 2**40), one=st.text(), paths=st.integers(1, 64))
def test_a_questions_paths_have_seeds_of_their_own(base: int, one: str, paths: int) -> None:
    seeds = [seed_of(base, one, index) for index in range(paths)]
    assert len(set(seeds)) == paths
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert seeds == [seed_of(base, one, index) for index in range(paths)]
    assert seed_of(None, one, 0) is None


def test_an_endpoint_is_an_address_and_a_model() -> None:
    assert Endpoint.parse("http://host:1/v1/", "m") == Endpoint("http://host:1/v1", "m")
    assert Endpoint.parse("https://host/v1=org/m:7b", "other", "KEY") == Endpoint(
        "https://host/v1", "org/m:7b", "KEY"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("127.0.0.1:8000/v1", "should look like"),
        ("ftp://host/v1", "should look like"),
        ("", "should look like"),
        ("http://host/v1", "which model"),
        ("https://user:secret@host/v1=m", "no key"),
        ("https://host/v1?key", "no key, query"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as refusal:
        Endpoint.parse(text, None)
    assert "secret" not in str(refusal.value)


def test_retry_after_is_a_number_or_a_date() -> None:
    now = 1_700_000_000.0
    later = email.utils.formatdate(now + 90, usegmt=True)
    for text, seconds in [("7", 7), ("0.5", 0.5), (later, 90), ("-3", 0), ("soon", 0), ("nan", 0)]:
        assert retry_after({"retry-after": text}, now) == seconds
    assert retry_after({}, now) == 0


def asks_of(questions: list[Question], paths: int) -> list[Ask]:
    return [Ask(question, index, None) for question in questions for index in range(paths)]


def think(teacher: EngineTeacher, asks: list[Ask]) -> list[Sample | Failure]:
    async def all_of_it() -> list[Sample | Failure]:
        return [outcome async for outcome in teacher.outcomes(iter(asks), asyncio.Event())]

    return asyncio.run(all_of_it())


@pytest.fixture
def engine(tiny_random_model: Path) -> ParaThinker:
    return thinker(tiny_random_model)


QUESTIONS = [Question(question_id(text), text) for text in ("What is 1?", "What is 2?", "Why?")]
ENGINE = SamplingSettings(models=("tiny",), paths=3, temperature=1.0, max_tokens=12, seed=5)


def test_the_engine_thinks_the_paths_that_think_would(engine: ParaThinker) -> None:
    outcomes = think(EngineTeacher(engine, "tiny", ENGINE, 2), asks_of(QUESTIONS, 3))
    assert len(outcomes) == 9
    for question in QUESTIONS:
        seed = seed_of(5, question.id, 0)
        params = ThinkingParams(
            paths=3, termination="last-finish", temperature=1.0, max_path_tokens=12, seed=seed,
            max_summary_tokens=1,
        )  # fmt: skip
        expected = engine.think(question.question, params).paths
        mine = [one for one in outcomes if one.question_id == question.id]
        assert [one.index for one in mine] == [0, 1, 2]
        for one, path in zip(mine, expected, strict=True):
            assert isinstance(one, Sample)
            assert one.reasoning == path.text.strip()
            assert (one.finish_reason, one.seed) == (path.finish_reason, seed)
            assert one.completion_tokens == len(path.token_ids)
            assert (one.answer, one.model, one.endpoint) == ("", "tiny", "tiny")


def test_the_engine_gives_only_the_paths_that_are_missing_and_the_same_ones(
    engine: ParaThinker,
) -> None:
    whole = think(EngineTeacher(engine, "tiny", ENGINE), asks_of(QUESTIONS[:1], 3))
    (last,) = think(EngineTeacher(engine, "tiny", ENGINE), asks_of(QUESTIONS[:1], 3)[2:])
    assert isinstance(last, Sample)
    assert dataclasses.replace(last, seconds=0) == dataclasses.replace(whole[2], seconds=0)


def test_a_question_that_does_not_fit_the_engine_fails_and_the_others_go_on(
    engine: ParaThinker,
) -> None:
    long = Question("long", "x" * 5000)
    outcomes = think(EngineTeacher(engine, "tiny", ENGINE), asks_of([long, *QUESTIONS[:1]], 3))
    failures = [one for one in outcomes if isinstance(one, Failure)]
    assert [(one.question_id, one.index) for one in failures] == [("long", i) for i in range(3)]
    assert len(outcomes) == 6


def test_an_engine_that_refuses_everything_stops_the_job(engine: ParaThinker) -> None:
    long = [Question(str(number), f"{number}" * 5000) for number in range(1, 10)]
    with pytest.raises(TeacherError, match="refused every question so far"):
        think(EngineTeacher(engine, "tiny", ENGINE), asks_of(long, 3))


def test_the_engine_refuses_what_it_cannot_do(engine: ParaThinker) -> None:
    with pytest.raises(UsageError, match="paths should be at most 8"):
        EngineTeacher(engine, "tiny", dataclasses.replace(ENGINE, paths=9))
    with pytest.raises(UsageError, match="extra fields"):
        EngineTeacher(engine, "tiny", dataclasses.replace(ENGINE, extra={"top_k": 1}))
