"""Whole builds, from a store of samples to a folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sums import STYLES, candidate, question, thought

from parathinker.data.build.card import command, licence_of
from parathinker.data.build.pipeline import build
from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.verify import ScoreCache, score_key
from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import (
    Example,
    PathText,
    Question,
    question_id,
    read_examples,
    read_questions,
    write_examples,
)
from parathinker.errors import UsageError
from parathinker.scoring import Scored


def verdicts(example: Example) -> list[bool | None]:
    return [path.correct for path in example.paths]


def add_samples(path: Path, count: int = 6, answers: int = 4) -> Path:
    """A store of sums: of each question's answers the last is wrong, and question 0 hopeless."""
    asked = [
        Question(question_id(text), text, str(10 + n + 7), "test")
        for n in range(count)
        for text in [f"What is {10 + n} + 7?"]
    ]
    samples = [
        Sample(
            one.id,
            i,
            f"{STYLES[i % len(STYLES)].format(a=10 + n, b=7)}That makes {value}.",
            rf"It is \boxed{{{value}}}.",
            "stop",
            *("teacher", "here", 5, 20, 0.1, None),
        )
        for n, one in enumerate(asked)
        for i in range(answers)
        for value in [10 + n + 7 + (i + 1 if i == answers - 1 or n == 0 else 0)]
    ]
    with SampleStore.begin(path, SamplingSettings(models=("teacher",), paths=answers), asked) as s:
        s.add(*samples)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose answers are checked already, by whichever test comes first."""
    return add_samples(tmp_path_factory.mktemp("store") / "samples.sqlite")


def test_a_store_becomes_a_folder_that_reads_back(store: Path, tmp_path: Path) -> None:
    report = build([store], tmp_path / "dataset", BuildSettings(validation=0.4), workers=1)
    examples = list(read_examples(tmp_path / "dataset"))
    assert len(examples) == 5
    assert {example.split for example in examples} == {"train", "validation"}
    for example in examples:
        assert verdicts(example) == [True, True, True, False]
        assert [path.learn for path in example.paths] == [True, True, True, False]
        assert example.summary is not None
        assert example.summary.endswith(rf"\boxed{{{example.answer}}}.")
        assert example.source == "test"
    made = json.loads((tmp_path / "dataset" / "build.json").read_text())
    assert made == report.to_dict()
    assert made["samples"] == {"right": 15, "wrong": 9}
    assert made["questions"] == 6
    assert sum(counts["examples"] for counts in made["splits"].values()) == 5
    dropped = [json.loads(line) for line in (tmp_path / "dataset" / "dropped.jsonl").open()]
    assert [(one["question"], one["reason"]) for one in dropped] == [
        ("What is 10 + 7?", "fewer than 1 right")
    ]
    assert sorted(path.name for path in (tmp_path / "dataset").iterdir()) == [
        "README.md",
        "build.json",
        "dropped.jsonl",
        "train.parquet",
        "validation.parquet",
    ]


def test_every_step_adds_up(store: Path, tmp_path: Path) -> None:
    report = build([store], tmp_path / "dataset", BuildSettings(paths=2), workers=1)
    by_step = {tally.step: tally for tally in report.tallies}
    assert by_step["duplicate questions"].kept == 6
    assert by_step["decontamination"].kept == 6
    assert by_step["finished"].kept == by_step["keep right-and-wrong"].came == 24
    assert by_step["diverse paths"].dropped == {"more than 2": 12}
    assert by_step["enough paths"].kept == by_step["summary"].kept == 5


def test_the_same_samples_give_the_same_bytes(store: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build([store], tmp_path / name / "dataset", BuildSettings(validation=0.4), workers=2)
    digests = [
        {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}
        for folder in (tmp_path / "one" / "dataset", tmp_path / "two" / "dataset")
    ]
    assert digests[0] == digests[1]


def test_the_card_says_what_is_in_it_and_how_to_make_it_again(store: Path, tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    own = tmp_path / "elsewhere" / "own.jsonl"
    own.parent.mkdir()
    own.write_text('{"question": "Why?"}\n')
    settings = BuildSettings(
        paths=3, keep="right", summary="none", readings=(1, 3), against=(str(own),)
    )
    report = build([store], tmp_path / "dataset", settings, workers=1)
    card = DatasetCard.load(tmp_path / "dataset" / "README.md")
    files = card.data.to_dict()["configs"][0]["data_files"]
    assert {"split": "train", "path": "train.parquet"} in files
    assert "9 wrong" in card.text
    assert command(report) in card.text
    assert command(report) == (
        "parathinker data build samples.sqlite -o dataset --paths 3 --keep right "
        "--readings 1,3 --summary none --against own.jsonl"
    )
    assert "not known here" in card.text
    assert licence_of("zwhe99/DeepMath-103K") == licence_of("deepmath") == "mit"
    assert licence_of("reasoning-gym:chain_sum") == "apache-2.0"


def test_what_was_checked_once_is_not_checked_again(store: Path, tmp_path: Path) -> None:
    build([store], tmp_path / "first", workers=1)
    again = build([store], tmp_path / "second", BuildSettings(paths=3), workers=1)
    assert again.checked == 0
    assert again.verdicts["right"] == 15


def test_another_answer_under_the_same_index_is_checked_anew(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite", 5.0)
    cache.put(score_key(question(), candidate(0)), Scored(1.0))
    cache.save()
    assert cache.get(score_key(question(), candidate(0))) == Scored(1.0)
    assert cache.get(score_key(question(), candidate(0, text="other"))) is None
    assert cache.get(score_key(question(answer="43"), candidate(0))) is None
    cache.put(score_key(question(), candidate(1)), Scored(0.0, "timed out"))
    cache.close()
    patient = ScoreCache(tmp_path / "scores.sqlite", 50.0)
    assert patient.get(score_key(question(), candidate(0))) == Scored(1.0)
    assert patient.get(score_key(question(), candidate(1))) is None
    patient.close()


def test_a_benchmarks_question_never_gets_in(tmp_path: Path) -> None:
    from parathinker.benchmarks import load_benchmark

    leaked = load_benchmark("aime24")[0]
    examples = [
        Example(q, tuple(PathText(thought(i), answer="42", correct=True) for i in range(3)))
        for q in (leaked.question, "What is 20 + 22?")
    ]
    write_examples(tmp_path / "examples.jsonl", examples)
    report = build([tmp_path / "examples.jsonl"], tmp_path / "dataset", workers=1)
    assert [e.question for e in read_examples(tmp_path / "dataset")] == ["What is 20 + 22?"]
    assert report.dropped[0].detail["benchmark_id"] == leaked.metadata["id"]


def test_examples_are_built_from_as_they_are_judged_and_checked_where_they_are_not(
    tmp_path: Path,
) -> None:
    paths_given = (
        PathText(thought(0), answer="42", correct=None),
        PathText(thought(1), answer=r"\frac{84}{2}", correct=None),
        PathText(thought(2), answer="41", correct=None),
        PathText(thought(3), answer="41", correct=True),
    )
    example = Example("What is 20 + 22?", paths_given, "old", answer="42", id="mine", source="s")
    write_examples(tmp_path / "examples.jsonl", [example])
    build([tmp_path / "examples.jsonl"], tmp_path / "dataset", workers=1)
    (made,) = read_examples(tmp_path / "dataset")
    assert verdicts(made) == [True, True, False, True]
    assert (made.id, made.source, made.answer) == ("mine", "s", "42")
    # And a dataset that was built can be built from.
    report = build([tmp_path / "dataset"], tmp_path / "again", workers=1)
    assert report.checked == 0
    assert [e.paths for e in read_examples(tmp_path / "again")] == [made.paths]


def test_samples_of_one_question_in_several_stores_come_together(tmp_path: Path) -> None:
    first = add_samples(tmp_path / "a.sqlite", count=2, answers=2)
    second = add_samples(tmp_path / "b.sqlite", count=2, answers=4)
    build([first, second], tmp_path / "dataset", BuildSettings(similar_paths=1), workers=1)
    (example,) = read_examples(tmp_path / "dataset")
    # Two of the first store, of which the right one is in the second, too, and three more.
    assert len(example.paths) == 5


def test_a_teacher_may_read_the_paths_and_write_the_summary(store: Path, tmp_path: Path) -> None:
    ask, answers = tmp_path / "ask.jsonl", tmp_path / "answers.sqlite"
    build([store], tmp_path / "dataset", workers=1, summary_questions=ask)
    asked = list(read_questions(ask))
    examples = list(read_examples(tmp_path / "dataset"))
    for one, example in zip(asked, examples, strict=True):
        assert example.question in one.question
        assert all(path.text in one.question for path in example.paths)
        assert one.answer == example.answer
    with SampleStore.begin(answers, SamplingSettings(models=("m",), paths=3), asked) as written:
        for i, one in enumerate(asked):
            # The first one is never right, the others are at their second attempt.
            for index, value in enumerate(("0", one.answer if i else "1", one.answer)):
                said, reason = (
                    f"They differ. \\boxed{{{value}}}",
                    "length" if index == 2 else "stop",
                )
                written.add(Sample(one.id, index, "Hm.", said, reason, "m", "e", 1, 1, 0.1, None))
    by_teacher = BuildSettings(summary="teacher", summaries=str(answers))
    report = build([store], tmp_path / "dataset", by_teacher, workers=1, force=True)
    made = list(read_examples(tmp_path / "dataset"))
    assert [one.paths for one in made] == [one.paths for one in examples[1:]]
    assert [one.summary for one in made] == [
        f"They differ. \\boxed{{{one.answer}}}" for one in examples[1:]
    ]
    assert [one.reason for one in report.dropped].count("nothing to sum up with") == 1
    # A summary of other paths is none of these.
    other = BuildSettings(summary="teacher", summaries=str(answers), paths=3)
    with pytest.raises(UsageError, match="nothing to sum up with"):
        build([store], tmp_path / "dataset", other, workers=1, force=True)


def test_nothing_is_written_over_by_accident(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "dataset"
    build([store], target, workers=1)
    before = (target / "train.parquet").read_bytes()
    with pytest.raises(UsageError, match="--force"):
        build([store], target, workers=1)
    with pytest.raises(UsageError, match=r"no example is left: .*fewer than 3 right"):
        build([store], target, BuildSettings(min_right=3, paths=3, wrong_share=0.6), force=True)
    assert (target / "train.parquet").read_bytes() == before
    build([store], target, BuildSettings(paths=2), workers=1, force=True)
    assert all(len(example.paths) == 2 for example in read_examples(target))
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="no dataset of this command"):
        build([store], other, workers=1, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"dataset", "mine"}


def test_a_build_killed_while_replacing_leaves_the_old_dataset(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "dataset"
    build([store], target, workers=1)
    target.rename(tmp_path / ".dataset.replaced")  # killed between two renames
    with pytest.raises(UsageError, match="--force"):
        build([store], target, workers=1)
    assert list(read_examples(target))


@pytest.mark.slow
def test_a_build_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    samples = add_samples(tmp_path / "samples.sqlite", count=4000, answers=3)
    scores = tmp_path / "samples.scores.sqlite"
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "parathinker", "data", "build", samples),
            *("-o", tmp_path / "dataset", "--workers", "1"),
        ],
        stderr=subprocess.DEVNULL,
    )

    def known() -> int:
        if not scores.exists():
            return 0
        with sqlite3.connect(f"file:{scores}?mode=ro", uri=True) as db:
            try:
                return int(db.execute("SELECT count(*) FROM scores").fetchone()[0])
            except sqlite3.OperationalError:  # not made yet
                return 0

    until = time.monotonic() + 120
    while known() < 100 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    done = known()
    assert 100 <= done < 12_000, "it was to be killed in the middle"
    assert not (tmp_path / "dataset").exists()
    report = build([samples], tmp_path / "dataset", workers=1)
    assert report.checked == 12_000 - done
    assert report.verdicts == {"right": 2 * 3999, "wrong": 4002}
    assert len(list(read_examples(tmp_path / "dataset"))) == 3999
