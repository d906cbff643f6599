"""The store of samples: nothing is lost, nothing is asked twice, nothing is mixed up."""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.data.merging import merge
from parathinker.data.samples import Failure, Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Question, question_id
from parathinker.errors import UsageError

SETTINGS = SamplingSettings(models=("teacher",), paths=4, max_tokens=100, extra={"top_k": 5})

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def questions(count: int, prefix: str = "What is") -> list[Question]:
    texts = [f"{prefix} {number}?" for number in range(count)]
    return [Question(question_id(text), text, answer="1", source="test") for text in texts]


def sample(question: Question, index: int = 0, **more: Any) -> Sample:
    fields = {
        "reasoning": f"thinking {index}",
        "answer": "one",
        "finish_reason": "stop",
        "model": "teacher",
        "endpoint": "http://127.0.0.1/v1",
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "seconds": 0.5,
        "seed": 7,
    }
    return Sample(question.id, index, **{**fields, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.sqlite"


@given(
    reasoning=TEXTS,
    answer=TEXTS,
    tokens=st.integers(0, 2**40),
    seed=st.none() | st.integers(0, 2**31),
)
def test_a_sample_is_read_back_as_it_was(
    reasoning: str, answer: str, tokens: int, seed: int | None
) -> None:
    (question,) = questions(1)
    added = sample(
        question, 2, reasoning=reasoning, answer=answer, completion_tokens=tokens, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        with SampleStore.begin(f"{folder}/s.sqlite", SETTINGS, [question]) as store:
            store.add(added)
        with SampleStore(f"{folder}/s.sqlite") as store:
            assert list(store.samples()) == [added]
            assert list(store.questions()) == [question]
            assert store.settings == SETTINGS


def test_half_a_surrogate_pair_does_not_stop_the_job(path: Path) -> None:
    (question,) = questions(1)
    with SampleStore.begin(path, SETTINGS, [question]) as store:
        store.add(sample(question, reasoning="broken \ud83d, whole \ud83d\ude00"))
        assert next(store.samples()).reasoning == "broken �, whole 😀"


@given(
    paths=st.integers(1, 5),
    done=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6))),
    failed=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6))),
)
def test_missing_is_what_has_neither_arrived_nor_failed(
    paths: int, done: set[tuple[int, int]], failed: set[tuple[int, int]]
) -> None:
    all_questions = questions(4)
    settings = dataclasses.replace(SETTINGS, paths=paths)
    with (
        tempfile.TemporaryDirectory() as folder,
        SampleStore.begin(f"{folder}/s.sqlite", settings, all_questions) as store,
    ):
        store.add_failures(*(Failure(all_questions[q].id, index, "no") for q, index in failed))
        store.add(*(sample(all_questions[q], index) for q, index in done))
        missing = [(question.id, index) for question, index in store.missing(paths)]
        assert missing == [
            (question.id, index)
            for q, question in enumerate(all_questions)
            for index in range(paths)
            if (q, index) not in done | failed
        ]
        settled = store.count("samples", paths) + store.count("failures", paths)
        assert settled + len(missing) == 4 * paths


def test_samples_may_be_added_while_what_is_missing_is_read(path: Path) -> None:
    all_questions = questions(250)
    with SampleStore.begin(path, SETTINGS, all_questions) as store:
        asked = []
        for question, index in store.missing(2):
            asked.append((question.id, index))
            store.add(sample(question, index))
        assert len(asked) == len(set(asked)) == 500
        assert list(store.missing(2)) == []


def test_the_first_sample_of_an_index_stays(path: Path) -> None:
    (question,) = questions(1)
    with SampleStore.begin(path, SETTINGS, [question]) as store:
        assert store.add(sample(question, 0, answer="first")) == 1
        assert store.add(sample(question, 0, answer="second"), sample(question, 1)) == 1
        assert [one.answer for one in store.samples(question.id)] == ["first", "one"]


def test_a_sample_of_an_unknown_question_is_refused_with_all_that_came_with_it(path: Path) -> None:
    known, unknown = questions(2)
    with SampleStore.begin(path, SETTINGS, [known]) as store:
        with pytest.raises(UsageError, match="does not take this"):
            store.add(sample(known), sample(unknown))
        assert list(store.samples()) == []


def test_samples_come_in_the_order_of_questions_and_indexes(path: Path) -> None:
    first, second = questions(2)
    with SampleStore.begin(path, SETTINGS, [first, second]) as store:
        store.add(sample(second, 1), sample(first, 3), sample(second, 0), sample(first, 0))
        order = [(one.question_id, one.index) for one in store.samples()]
        assert order == [(first.id, 0), (first.id, 3), (second.id, 0), (second.id, 1)]
        assert [one.index for one in store.samples(second.id)] == [0, 1]
        assert store.tokens() == (12, 20)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 1.0}, "temperature: 0.8 there, 1.0 now"),
        ({"top_p": 0.9}, "top_p: 1.0 there, 0.9 now"),
        ({"max_tokens": None}, "max_tokens: 100 there, None now"),
        ({"models": ("other",)}, "models: .'teacher',. there, .'other',. now"),
        ({"system_prompt": "Think."}, "system_prompt: None there, 'Think.' now"),
        ({"prompt": "{question}!"}, "prompt: '{question}' there, '{question}!' now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"extra": {}}, "extra: {'top_k': 5} there, {} now"),
        ({"shard": "1/2"}, "shard: None there, '1/2' now"),
        ({"paths": 3}, r"paths: 4 there, 3 now \(paths may grow, not shrink\)"),
    ],
)
def test_other_settings_are_refused_and_the_difference_named(
    path: Path, change: dict[str, Any], named: str
) -> None:
    SampleStore.begin(path, SETTINGS, questions(1)).close()
    with pytest.raises(UsageError, match=named):
        SampleStore.begin(path, dataclasses.replace(SETTINGS, **change), questions(1))
    with SampleStore(path) as store:
        assert store.settings == SETTINGS


def test_paths_may_grow(path: Path) -> None:
    (question,) = questions(1)
    with SampleStore.begin(path, SETTINGS, [question]) as store:
        store.add(*(sample(question, index) for index in range(4)))
    more = dataclasses.replace(SETTINGS, paths=6)
    with SampleStore.begin(path, more, [question]) as store:
        assert [index for _, index in store.missing(6)] == [4, 5]
        assert store.settings == more


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", ()),
        ("paths", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("max_tokens", 0),
        ("prompt", "Think."),
        ("seed", -1),
    ],
)
def test_settings_that_cannot_be_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} should be"):
        dataclasses.replace(SETTINGS, **{field: value})


def test_questions_may_be_added_but_not_left_out_or_reworded(path: Path) -> None:
    first, second, third = questions(3)
    SampleStore.begin(path, SETTINGS, [first, second]).close()
    with pytest.raises(UsageError, match=f"1 of its 2 .* such as {second.id}"):
        SampleStore.begin(path, SETTINGS, [first, third])
    reworded = dataclasses.replace(second, question="What is 1 then?")
    with pytest.raises(UsageError, match="another text"):
        SampleStore.begin(path, SETTINGS, [first, reworded])
    corrected = dataclasses.replace(first, answer="2", metadata={"checked": True})
    with SampleStore.begin(path, SETTINGS, [third, second, corrected]) as store:
        assert list(store.questions()) == [corrected, second, third]


def _text_file(path: Path) -> None:
    path.write_text("question,answer\n" * 100)


def _other_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE holidays (day TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "no store of samples at"),
        (Path.mkdir, "no store of samples at"),
        (_text_file, "not a store of samples"),
        (_other_database, "another SQLite database"),
        (Path.touch, "holds no samples yet"),
    ],
)
def test_what_is_no_store_is_refused(
    path: Path, make: Callable[[Path], None], complaint: str
) -> None:
    make(path)
    with pytest.raises(UsageError, match=complaint) as refusal:
        SampleStore(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("make", [Path.mkdir, _text_file, _other_database])
def test_what_is_no_store_is_not_written_over(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UsageError):
        SampleStore.begin(path, SETTINGS, questions(1))
    assert before == (path.read_bytes() if path.is_file() else None)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_store_whose_making_was_cut_short_is_made_again(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    with SampleStore.begin(path, SETTINGS, questions(1)) as store:
        assert store.count("questions") == 1


def test_readers_look_on_while_a_writer_writes(path: Path) -> None:
    (question,) = questions(1)
    with SampleStore.begin(path, SETTINGS, [question]) as writer:
        writer.add(sample(question, 0), sample(question, 1))
        with SampleStore(path) as reader:
            reading = reader.samples()
            assert next(reading).index == 0
            writer.add(sample(question, 2))
            assert next(reading).index == 1
            assert reader.count("samples") == 3


def test_one_process_adds_at_a_time(path: Path) -> None:
    with (
        SampleStore.begin(path, SETTINGS, questions(1)),
        pytest.raises(UsageError, match="another process is writing to"),
    ):
        SampleStore.begin(path, SETTINGS, questions(1))
    SampleStore.begin(path, SETTINGS, questions(1)).close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


ADD_FOR_EVER = """
import sys
from parathinker.data.samples import SampleStore
sys.path.insert(0, sys.argv[2])
from test_samples import SETTINGS, questions, sample
with SampleStore.begin(sys.argv[1], SETTINGS, questions(1)) as store:
    for index in range(10**9):
        store.add(sample(questions(1)[0], index))
        print(index, flush=True)
"""


def test_what_was_added_survives_sigkill_and_the_store_is_free_again(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ADD_FOR_EVER, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    last = 0
    while last < 50:
        last = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().split()
    assert process.wait() == -signal.SIGKILL
    last = int(rest[-1]) if rest else last
    with SampleStore.begin(path, SETTINGS, questions(1)) as store:
        indexes = [one.index for one in store.samples()]
    assert indexes[: last + 1] == list(range(last + 1))
    assert len(indexes) <= last + 2


def test_failures_are_told_forgotten_and_overtaken_by_samples(path: Path) -> None:
    (question,) = questions(1)
    with SampleStore.begin(path, SETTINGS, [question]) as store:
        store.add(sample(question, 0))
        store.add_failures(*(Failure(question.id, index, "refused") for index in range(3)))
        assert list(store.failures()) == [Failure(question.id, i, "refused") for i in (1, 2)]
        store.add(sample(question, 1))
        assert store.count("failures") == 1
        assert store.forget_failures() == 1
        assert [index for _, index in store.missing(3)] == [2]


def _shard(
    folder: Path, name: str, asked: list[Question], samples: list[Sample], **settings: Any
) -> Path:
    path = folder / name
    mine = dataclasses.replace(SETTINGS, shard=name, **settings)
    with SampleStore.begin(path, mine, asked) as store:
        store.add(*samples)
    return path


def test_merged_shards_are_one_store_without_doubles(tmp_path: Path) -> None:
    first, second, third = questions(3)
    one = _shard(tmp_path, "1", [first, second], [sample(first, 0), sample(second, 0)])
    two = _shard(
        tmp_path, "2", [second, third], [sample(second, 0, answer="late"), sample(third, 1)]
    )
    with SampleStore(one) as store:
        store.add_failures(Failure(second.id, 2, "no"), Failure(second.id, 3, "no"))
    with SampleStore(two) as store:
        store.add(sample(second, 3))
    merged = tmp_path / "merged.sqlite"
    assert merge([one, two], merged) == 4
    assert merge([one, two], merged) == 0
    with SampleStore(merged) as store:
        assert list(store.questions()) == [first, second, third]
        assert list(store.samples()) == [
            sample(first, 0), sample(second, 0), sample(second, 3), sample(third, 1),
        ]  # fmt: skip
        assert list(store.failures()) == [Failure(second.id, 2, "no")]
        assert store.settings == SETTINGS
    three = _shard(tmp_path, "3", questions(4)[3:], [sample(questions(4)[3])])
    assert merge([three], merged) == 1


def test_stores_that_do_not_fit_are_not_merged(tmp_path: Path) -> None:
    one = _shard(tmp_path, "1", questions(1), [])
    warm = _shard(tmp_path, "2", questions(1), [], temperature=1.0)
    worded = _shard(
        tmp_path, "3", [dataclasses.replace(questions(1)[0], question="what is 0?")], []
    )
    into = tmp_path / "merged.sqlite"
    with pytest.raises(UsageError, match=r"temperature: 0\.8 there, 1\.0 now"):
        merge([one, warm], into)
    with pytest.raises(UsageError, match="another text"):
        merge([one, worded], into)
    with pytest.raises(UsageError, match="is one of the stores"):
        merge([one], one)
    with pytest.raises(UsageError, match="nothing to merge"):
        merge([], into)
    assert not into.exists()
