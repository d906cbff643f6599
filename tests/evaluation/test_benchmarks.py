"""Benchmarks: packaged, from files, drawn; and what is wrong with a file, by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parathinker import UsageError
from parathinker.data import products
from parathinker.evaluation.benchmarks import DECLARED, Selection, load
from parathinker.evaluation.names import NAMES

SMALL = {"min_terms": "2", "max_terms": "2", "min_digits": "1", "max_digits": "1"}


@pytest.mark.parametrize(
    ("name", "count"), [("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500)]
)
def test_packaged_benchmarks_are_whole_and_ask_for_a_box(name: str, count: int) -> None:
    benchmark = load(name, Selection())
    assert len({question.id for question in benchmark.questions}) == count
    assert all(question.answer for question in benchmark.questions)
    assert benchmark.ask(benchmark.questions[0]).endswith("within \\boxed{}.")
    assert load(name, Selection(3)).questions == benchmark.questions[:3]


def test_products_are_held_out_and_another_seed_draws_others() -> None:
    first, second = load("products", Selection(40)), load("products", Selection(40, seed=1))
    for question in first.questions:
        problem = products.problem_of(question.metadata["entry"])
        assert products.is_held_out(problem.a, problem.b)
    assert not {q.id for q in first.questions} & {q.id for q in second.questions}
    assert load("products", Selection(10)).questions == first.questions[:10]


def test_sums_are_held_out_and_another_seed_draws_others() -> None:
    first, second = load("sums", Selection(20)), load("sums", Selection(20, seed=1))
    assert len(first.questions) == 20
    assert not {q.id for q in first.questions} & {q.id for q in second.questions}
    assert load("sums", Selection(5)).questions == first.questions[:5]
    short = load("sums", Selection(2, 0, {"terms": "3"}))
    assert [q.question.count("+") for q in short.questions] == [2, 2]
    with pytest.raises(UsageError, match="has no option"):
        load("sums", Selection(2, 0, {"max_terms": "9"}))
    with pytest.raises(UsageError, match="terms should be a whole number from 2; got '1'"):
        load("sums", Selection(2, 0, {"terms": "1"}))


def test_tasks_are_drawn_by_name_size_and_seed() -> None:
    options = {"min_terms": "2", "max_terms": "2"}
    benchmark = load("reasoning-gym:chain_sum", Selection(5, 1, options))
    assert len(benchmark.questions) == 5
    assert benchmark == load("reasoning-gym:chain_sum", Selection(5, 1, options))
    other = load("reasoning-gym:chain_sum", Selection(5, 2, options))
    assert not {q.id for q in benchmark.questions} & {q.id for q in other.questions}


def test_more_problems_of_a_task_begin_with_those_that_fewer_were() -> None:
    few = load("reasoning-gym:chain_sum", Selection(4, 1))
    assert load("reasoning-gym:chain_sum", Selection(9, 1)).questions[:4] == few.questions


def test_rows_that_are_left_out_are_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"problem": "1+1?", "answer": "2"}] * 3 + [{"problem": "1+2?", "answer": "3"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load(str(file), Selection())
    assert len(found.questions) == 2
    assert found.remark == f"{file}: of 4 rows 2 are left out: 2 duplicate"
    assert load("aime24", Selection()).remark == ""
    few = load("reasoning-gym:chain_sum", Selection(400, 0, SMALL))
    assert few.remark.startswith("reasoning-gym:chain_sum: of 400 problems asked for, ")


def test_a_folder_has_splits(tmp_path: Path) -> None:
    for split, rows in (
        ("train", [{"problem": "1+1?", "answer": "2"}]),
        ("test", [{"problem": "1+2?", "answer": "3"}, {"problem": "1+3?"}]),
    ):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(str(tmp_path), Selection()).questions[0].answer == "2"
    found = load(str(tmp_path), Selection(split="test"))
    assert [question.answer for question in found.questions] == ["3"]
    assert found.remark == f"{tmp_path}: of 2 rows 1 are left out: 1 no answer"
    with pytest.raises(UsageError, match="train"):
        load(str(tmp_path), Selection(split="tests"))


def test_a_file_has_problems_and_answers(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"problem": "1+1?", "answer": 2}, {"question": "1+2?", "answer": "3"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load(str(file), Selection())
    assert [(q.question, q.answer) for q in benchmark.questions] == [("1+1?", "2"), ("1+2?", "3")]
    asked = load(str(file), Selection(), "Think: {question} {{}}")
    assert asked.ask(asked.questions[0]) == "Think: 1+1? {}"


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ('{"problem": "1+2?", "answer"', "jsonl:2"),
        ('{"answer": "3"}', "jsonl:2 has no question; its fields: answer"),
        ('{"problem": "1+2?"}', "jsonl:2 has no answer"),
    ],
    ids=["broken JSON", "no problem", "no answer"],
)
def test_a_broken_line_is_named_by_its_number(
    tmp_path: Path, second_line: str, message: str
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"problem": "1+1?", "answer": "2"}) + "\n" + second_line + "\n")
    with pytest.raises(UsageError, match=message) as caught:
        load(str(file), Selection())
    assert "mine.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "selection", "message"),
    [
        ("aime42", Selection(), "did you mean aime2"),
        ("nowhere.jsonl", Selection(), "nowhere.jsonl"),
        ("reasoning-gym:chain_some", Selection(2), "did you mean chain_sum"),
        ("reasoning-gym:chain_sum", Selection(2, 0, {"trems": "2"}), "no option 'trems'"),
        ("products", Selection(2, 0, {"digit": "2"}), "no option 'digit'; it has: digits"),
        ("products", Selection(2, 0, {"digits": "two"}), "whole number from 1"),
        ("aime24", Selection(2, 0, {"digits": "2"}), "no option 'digits'; it has: none"),
    ],
)
def test_what_is_not_there_is_refused(name: str, selection: Selection, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(name, selection)


def test_questions_without_answers_are_no_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"problem": "1+1?"}) + "\n")
    with pytest.raises(UsageError, match="answer"):
        load(str(file), Selection())


@pytest.mark.parametrize("prompt", ["What?", "{question} {other}", "{question} {", "{question} {}"])
def test_a_prompt_that_asks_nothing_is_refused(prompt: str) -> None:
    with pytest.raises(UsageError, match="prompt should be a text with"):
        load("aime24", Selection(1), prompt)


def test_every_declared_benchmark_is_named_in_help_and_documentation() -> None:
    assert tuple(DECLARED) == NAMES
    text = (Path(__file__).parents[2] / "docs/evaluation.md").read_text("utf-8")
    table = text.partition("## Benchmarks")[2].partition("`--prompt")[0]
    assert all(f"`{name}`" in table for name in NAMES)


def test_every_declared_benchmark_loads() -> None:
    for name in DECLARED:
        assert load(name, Selection(1)).questions
