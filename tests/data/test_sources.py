"""Sources: well-known layouts, files and folders, filters, and published samples."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from parathinker.data.samples import SampleStore
from parathinker.data.schema import Question, question_id, write_questions
from parathinker.data.sources import (
    LAYOUTS,
    SourceOptions,
    Tally,
    gather,
    read_samples,
    read_source,
    split_reasoning,
)
from parathinker.data.sources.published import gather_samples
from parathinker.errors import ParaThinkerError, UsageError

FIXTURES = Path(__file__).parent / "fixtures"
ANSWERS = {
    "openr1": ["16", "\\{0, 2\\}", None],
    "deepmath": ["3", "2", "No"],
    "s1k": ["55", "6", None],
    "s1k-1.1": ["55", "6", None],
    "limo": ["9", "29"],
}


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]


def read(source: object, **options: Any) -> list[Question]:
    return gather([str(source)], SourceOptions(**options)).questions


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def hub_folder(folder: Path, name: str) -> Path:
    """A data set as its repository on the hub is laid out."""
    from datasets import Dataset

    (folder / "data").mkdir(parents=True)
    rows = Dataset.from_list(rows_of(name))
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: data/train-*\n---\n# A data set\n"
    )
    return folder


@pytest.mark.parametrize("name", list(ANSWERS))
def test_layouts_are_told_by_their_columns_and_give_questions_and_answers(name: str) -> None:
    tally = Tally("")
    source = str(FIXTURES / f"{name}.jsonl")
    questions = [question for question, _ in read_source(source, SourceOptions(), tally)]
    rows = rows_of(name)
    assert (tally.layout, tally.rows, not tally.dropped) == (name, len(rows), True)
    asked = [row.get("question") or row["problem"] for row in rows]
    assert [q.question for q in questions] == asked
    assert [q.id for q in questions] == list(map(question_id, asked))
    assert [q.answer for q in questions] == ANSWERS[name]
    assert {q.source for q in questions} == {f"{name}.jsonl"}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_a_folder_as_on_the_hub_reads_like_the_file(tmp_path: Path, name: str) -> None:
    folder = hub_folder(tmp_path / name, name)
    file = FIXTURES / f"{name}.jsonl"
    a, b = (list(read_source(str(s), SourceOptions(), Tally(""))) for s in (folder, file))
    assert [(q.question, q.answer, q.metadata, t) for q, t in a] == [
        (q.question, q.answer, q.metadata, t) for q, t in b
    ]
    assert read(folder) == [question for question, _ in a]  # without columns that nobody reads


def test_only_columns_that_a_question_takes_are_asked_for() -> None:
    columns = list(rows_of("openr1")[0])
    (layout,) = [layout for layout in LAYOUTS if layout.name == "openr1"]
    needed = ["problem", "solution", "answer", "problem_type", "question_type"]
    assert layout.columns_read(columns) == needed


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list(rows_of("limo"))
    rows.save_to_disk(tmp_path / "one")
    DatasetDict(train=rows, test=rows.select([0])).save_to_disk(tmp_path / "two")
    assert [q.answer for q in read(tmp_path / "one")] == ["9", "29"]
    assert [q.answer for q in read(tmp_path / "two")] == ["9", "29"]
    assert [q.answer for q in read(tmp_path / "two", split="test")] == ["9"]
    with pytest.raises(UsageError, match="no split 'dev'; it has train, test"):
        read(tmp_path / "two", split="dev")


def test_every_kind_of_file_reads_alike(tmp_path: Path) -> None:
    from datasets import Dataset

    pairs = [("1/2 in decimals?", "0.50"), ("Agent?", "007")]
    rows = [{"problem": problem, "answer": answer} for problem, answer in pairs]
    write(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["problem", "answer"])
        writer.writeheader()
        writer.writerows(rows)
    for suffix in ("jsonl", "json", "parquet", "csv"):
        questions = read(tmp_path / f"a.{suffix}")
        assert [(q.question, q.answer) for q in questions] == pairs


def test_own_questions_keep_id_source_and_metadata(tmp_path: Path) -> None:
    written = [
        Question("abc", "q1", None, "elsewhere", {"task": "t", "entry": {"x": [1]}}),
        Question("def", "q2", "2"),
    ]
    write_questions(tmp_path / "q.jsonl", written)
    assert read(tmp_path / "q.jsonl") == written


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "q", "answer": 42}, "42"),
        ({"question": "q", "answer": "4 + 4 = 8\n#### 8"}, "8"),
        ({"question": "q", "answer": "so $\\boxed{\\frac{1}{2}}$"}, "\\frac{1}{2}"),
        ({"question": "q", "answer": "(2, 3)\n"}, "(2, 3)"),
        ({"question": "q", "solution": "Long.\nAnd so the answer is 12."}, "12"),
        ({"question": "q", "solution": "12"}, "12"),
        ({"question": "q", "solution": "There are 3 steps.\nThe 2 last are hard."}, None),
        ({"question": "q", "solution": "word " * 40}, None),
        ({"question": "q", "answer": "x = 1\ny = 2"}, "x = 1\ny = 2"),
        ({"question": "q", "answer": ""}, None),
        ({"question": "q", "answer": float("nan")}, None),
        ({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}, None),
    ],
)
def test_reference_answers_are_found_only_where_they_are_marked_or_alone(
    tmp_path: Path, row: dict[str, Any], answer: str | None
) -> None:
    (question,) = read(write(tmp_path / "a.jsonl", row))
    assert (question.question, question.answer) == ("q", answer)


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"task": "q", "key": "3", "question": "other", "tries": ["a</think>b"]},
    )
    ((question, texts),) = read_source(
        str(file),
        SourceOptions(question_column="task", answer_column="key", samples_column="tries"),
        Tally(""),
    )
    assert (question.question, question.answer) == ("q", "3")
    assert [(t.text, t.finish_reason) for t in texts] == [("a</think>b", "stop")]


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"text": "q", "label": 1}, {}, "--question-column. Its columns: text, label"),
        ({"question": "q"}, {"layout": "openr1"}, "not of the layout openr1: it lacks problem"),
        ({"question": "q"}, {"layout": "nonsense"}, "no layout 'nonsense'; known: openr1"),
        ({"question": "q"}, {"answer_column": "key"}, "no column 'key'; its columns: question"),
        (
            {"question": "q"},
            {"layout": "limo", "answer_column": "question"},
            "layout generic only, not for limo",
        ),
        ({"question": "q"}, {"min_difficulty": 3}, "knows no difficulty"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_the_columns_found(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path / "a.jsonl", row), **options)


def test_layout_can_be_forced(tmp_path: Path) -> None:
    file = shutil.copy(FIXTURES / "deepmath.jsonl", tmp_path / "a.jsonl")
    (first, *_), tally = read(file, layout="generic"), Tally("")
    list(read_source(str(file), SourceOptions(layout="generic"), tally))
    assert (first.answer, first.metadata, tally.layout) == ("3", {}, "generic")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "unknown source 'nowhere.jsonl'"),
        ("nowhere/file.csv", "unknown source"),
        ("three/part/name", "no hub id like 'owner/name'"),
        ("openr2", "none of openr1, deepmath"),
    ],
)
def test_unknown_sources_are_usage_errors(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(source)


def test_a_hub_that_cannot_be_reached_is_no_usage_error() -> None:
    with pytest.raises(ParaThinkerError, match="'nobody/nothing' is no file or folder") as error:
        read("nobody/nothing")
    assert not isinstance(error.value, UsageError)


def test_an_empty_folder_and_a_missing_split_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty is no folder of a data set"):
        read(tmp_path / "empty")
    folder = hub_folder(tmp_path / "limo", "limo")
    with pytest.raises(UsageError, match="validation"):
        read(folder, split="validation")
    with pytest.raises(UsageError, match="extended"):
        read(folder, subset="extended")


def test_damaged_rows_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q"}\n{"question": \n')
    with pytest.raises(UsageError, match=r"a\.jsonl:2: not valid JSON"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_text('question,answer\n"q,1\n')
    with pytest.raises(UsageError, match=r"a\.csv, row \d: not valid CSV"):
        read(tmp_path / "a.csv")


def test_rows_are_dropped_with_their_reason(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"question": "one", "answer": "1", "difficulty": 5},
        {"question": " "},
        {"question": None},
        {"question": "two", "difficulty": 7},
        {"question": "three", "answer": "3", "difficulty": 2.5},
        {"question": "four", "answer": "4", "difficulty": "?"},
        {"question": "ONE ", "answer": "1", "difficulty": 9},
    )
    options = SourceOptions(require_answer=True, min_difficulty=4)
    gathered = gather([str(file)], options)
    (tally,) = gathered.tallies
    assert [q.question for q in gathered.questions] == ["one"]
    assert (tally.rows, tally.kept) == (7, 1)
    assert tally.dropped == {
        "no question": 2,
        "no answer": 1,
        "too easy": 1,
        "no difficulty": 1,
        "duplicate": 1,
    }


def test_half_a_surrogate_pair_does_not_reach_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "what \\ud83d?"}\n')
    (question,) = read(tmp_path / "a.jsonl")
    assert question.question == "what \ufffd?"
    assert write_questions(tmp_path / "q.jsonl", [question]) == 1


def numbered(folder: Path, count: int, name: str = "a.jsonl") -> Path:
    return write(folder / name, *({"question": f"What is {i}?", "answer": i} for i in range(count)))


def test_a_limit_takes_the_first_and_reads_no_further(tmp_path: Path) -> None:
    file = numbered(tmp_path, 5)
    file.write_text(file.read_text() + "not JSON at all\n")
    assert [q.answer for q in read(file, limit=3)] == ["0", "1", "2"]


def test_a_seed_shuffles_the_same_way_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    file = numbered(tmp_path, 200)
    lines = file.read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    other = tmp_path / "b.jsonl"
    other.write_text("".join(lines))
    ids = [[q.id for q in read(f, seed=1)] for f in (file, other)]
    assert ids[0] == ids[1]
    assert ids[0] != [q.id for q in read(file)]
    assert ids[0] != [q.id for q in read(file, seed=2)]
    assert sorted(ids[0]) == sorted(q.id for q in read(file))


def test_a_seed_and_a_limit_take_a_random_share(tmp_path: Path) -> None:
    file = numbered(tmp_path, 200)
    gathered = gather([str(file)], SourceOptions(seed=1, limit=20))
    assert [q.id for q in gathered.questions] == [q.id for q in read(file, seed=1)][:20]
    assert gathered.tallies[0].dropped == {"beyond --limit": 180}
    drawn = sorted(int(q.answer or 0) for q in gathered.questions)
    assert drawn[0] < 60 < 140 < drawn[-1]


def test_no_question_comes_twice_from_several_sources(tmp_path: Path) -> None:
    a, b = numbered(tmp_path, 3), numbered(tmp_path, 5, "b.jsonl")
    gathered = gather([str(a), str(b)], SourceOptions())
    assert [q.source for q in gathered.questions] == ["a.jsonl"] * 3 + ["b.jsonl"] * 2
    assert [t.dropped for t in gathered.tallies] == [{}, {"duplicate": 3}]


def test_what_teachers_wrote_comes_with_the_questions() -> None:
    texts = {
        name: [
            [(*split_reasoning(t.text), t.model, t.finish_reason) for t in texts]
            for _, texts in read_samples(str(FIXTURES / f"{name}.jsonl"))
        ]
        for name in ANSWERS
    }
    r1, gemini = "deepseek-ai/DeepSeek-R1", "gemini-2.0-flash-thinking-exp"
    assert texts["openr1"][1] == [
        (
            "Divide by x: x = 2. But x = 0 works too.",
            "The solutions are \\(\\boxed{0, 2}\\).",
            r1,
            "stop",
        ),
        ("x squared minus 2x is x times x minus 2, so", "", r1, "length"),
    ]
    assert texts["deepmath"][0][0] == (
        "Okay, 3n/n is 3 and 1/n goes to 0.",
        "The limit is \\boxed{3}.",
        r1,
        "stop",
    )
    assert [len(found) for found in texts["deepmath"]] == [3, 3, 3]
    assert texts["s1k"][0] == [
        ("Pair 1 with 10, 2 with 9: five pairs of 11.", "The sum is 55.", gemini, "stop")
    ]
    assert [found[2] for found in texts["s1k-1.1"][0]] == [r1, gemini]
    assert texts["s1k-1.1"][0][0][0].startswith("Hmm. Pair 1")
    assert texts["limo"] == []


def test_published_texts_become_a_store_of_samples(tmp_path: Path) -> None:
    store = tmp_path / "new" / "samples.sqlite"
    sources = [str(FIXTURES / f"{name}.jsonl") for name in ("s1k", "s1k-1.1", "limo")]
    gathered, count = gather_samples(sources, SourceOptions(), store)
    # Both editions of s1K hold the same texts of one teacher.
    assert (len(gathered.questions), count) == (5, 6)
    assert list(store.parent.iterdir()) == [store]
    with SampleStore(store) as read_back:
        questions = list(read_back.questions())
        assert questions == gathered.questions[:3]  # LIMO's have no samples
        samples = list(read_back.samples(questions[0].id))
        assert [s.index for s in samples] == [0, 1]
        assert samples[1].reasoning.startswith("Hmm.")
        assert {s.answer for s in samples} == {"The sum is 55."}
        assert samples[0].endpoint == "published in s1k.jsonl"
        assert read_back.settings.paths == 2


def test_a_source_given_twice_gives_its_samples_once(tmp_path: Path) -> None:
    source = str(FIXTURES / "openr1.jsonl")
    gathered, count = gather_samples([source, source], SourceOptions(), tmp_path / "a.sqlite")
    assert (len(gathered.questions), count) == (3, 5)


def test_a_store_holds_the_samples_of_the_questions_kept_alone(tmp_path: Path) -> None:
    source = str(FIXTURES / "deepmath.jsonl")
    store = tmp_path / "a.sqlite"
    gathered, count = gather_samples([source], SourceOptions(limit=1, seed=5), store)
    assert (len(gathered.questions), count) == (1, 3)
    with SampleStore(store) as read_back:
        assert {s.question_id for s in read_back.samples()} == {gathered.questions[0].id}


def test_a_store_is_not_made_of_nothing(tmp_path: Path) -> None:
    store = tmp_path / "a.sqlite"
    with pytest.raises(UsageError, match="hold nothing that teachers wrote"):
        gather_samples([str(FIXTURES / "limo.jsonl")], SourceOptions(), store)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\na b\n</think>\n\nc", ("a b", "c")),
        ("a</think>c </think> d", ("a", "c </think> d")),
        ("a", ("a", "")),
        ("<think>a", ("a", "")),
        ("", ("", "")),
    ],
)
def test_reasoning_and_answer_are_told_apart(text: str, parts: tuple[str, str]) -> None:
    assert split_reasoning(text) == parts
