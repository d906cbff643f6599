"""The schema of questions and examples: what is written is read, and errors name their place."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from parathinker.data.schema import (
    Example,
    PathText,
    Question,
    question_id,
    read_examples,
    read_questions,
    write_examples,
    write_questions,
)
from parathinker.errors import UsageError
from parathinker.tokens import control_token_names

EXAMPLE = Example(
    question="What is 6 * 7?",
    paths=(
        PathText("6 * 7 = 42", answer="42", correct=True, thought_id=3),
        PathText("41?", learn=False),
        PathText("43? No.", given=3),
    ),
    summary="It is 42.",
    readings=((0, 1), (1,)),
    id="0123456789abcdef",
    answer="42",
    source="mine",
    split="validation",
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
spoken = texts.filter(str.strip)
maybe = st.none() | texts
examples = st.builds(
    Example,
    question=spoken,
    paths=st.lists(
        texts.flatmap(
            lambda text: st.builds(
                PathText,
                st.just(text),
                st.booleans(),
                maybe,
                st.none() | st.booleans(),
                st.none() | st.integers(1, 99),
                st.integers(0, len(text)),
            )
        ),
        min_size=1,
    ).map(tuple),
    summary=maybe,
    id=texts,
    answer=maybe,
    source=texts,
    split=st.sampled_from(["train", "validation", "test"]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
questions = st.builds(
    Question,
    id=spoken,
    question=spoken,
    answer=maybe,
    source=texts,
    metadata=st.dictionaries(texts, json_values, max_size=3),
)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_examples_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, suffix: str
) -> None:
    file = tmp_path_factory.mktemp("data") / f"examples{suffix}"

    @given(st.lists(examples, max_size=4))
    def check(written: list[Example]) -> None:
        assert write_examples(file, written) == len(written)
        assert list(read_examples(file)) == written

    check()


def test_questions_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("data") / "questions.jsonl"

    @given(st.lists(questions, max_size=4))
    def check(written: list[Question]) -> None:
        assert write_questions(file, written) == len(written)
        assert list(read_questions(file)) == written

    check()


@given(spoken)
def test_question_id_is_blind_to_what_cannot_be_seen(text: str) -> None:
    known = question_id(text)
    assert len(known) == 16
    assert int(known, 16) >= 0
    assert question_id(f"\n {'  '.join(text.split())}\t") == known
    assert question_id(unicodedata.normalize("NFKC", text)) == known


def test_question_id_tells_questions_apart() -> None:
    assert question_id("What is 6 * 7?") == question_id("what is  6 * 7?")
    assert question_id("What is 6 * 7?") != question_id("What is 6 * 8?")
    # Questions are matched between files and runs: the id may never change.
    assert question_id("What is 6 * 7?") == "f8a41dc129dd892e"


def test_an_example_needs_a_question_and_paths_only() -> None:
    read = Example.from_dict({"question": "q", "paths": ["a", {"text": "b", "learn": None}]})
    assert read == Example("q", (PathText("a"), PathText("b")), id=question_id("q"))
    assert Question.from_dict({"question": "q"}) == Question(question_id("q"), "q")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "'question' should be a non-empty string"),
        ({"paths": []}, "'paths' should be a non-empty list"),
        ({"paths": [{"learn": True}]}, r"paths\[0\] should be a string or have a 'text'"),
        ({"paths": ["a", {"text": "b", "learn": "no"}]}, r"paths\[1\]: 'learn' should be true"),
        ({"paths": [{"text": "b", "correct": 1}]}, r"paths\[0\]: 'correct' should be true"),
        ({"paths": ["b"], "readings": [[1]]}, "'readings' should list lists of indexes into the 1"),
        ({"paths": ["b"], "readings": [[]]}, "'readings' should list lists"),
        ({"paths": ["b"], "readings": [[0, 0]]}, "'readings' should list lists"),
        ({"paths": [{"text": "b", "given": 2}]}, r"paths\[0\]: 'given' should be a number"),
        ({"paths": [{"text": "b", "thought_id": 0}]}, r"paths\[0\]: 'thought_id' should be a num"),
        ({"summary": 3}, "'summary' should be a string"),
        ({"answer": 42}, "'answer' should be a string"),
        ({"summary": "\ud800"}, "'summary' is no valid Unicode"),
    ],
)
def test_errors_name_file_line_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = tmp_path / "examples.jsonl"
    good = EXAMPLE.to_dict()
    file.write_text(f"{json.dumps(good)}\n\n{json.dumps({**good, **change})}\n")
    with pytest.raises(UsageError, match=rf"examples\.jsonl:3: {message}"):
        list(read_examples(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"\.jsonl:1: not valid JSON"),
        ("[1]", r"\.jsonl:1: should be a JSON object"),
        ('{"question": "q", "metadata": [1]}', "'metadata' should be an object"),
        ('{"text": "q"}', "'question' should be a non-empty string"),
    ],
)
def test_damaged_questions_are_told_apart(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        list(read_questions(file))


def test_an_error_in_parquet_names_the_row(tmp_path: Path) -> None:
    file = tmp_path / "examples.parquet"
    write_examples(file, [EXAMPLE, Example("q", ())])
    with pytest.raises(UsageError, match=r"examples\.parquet, row 2: 'paths' should be"):
        list(read_examples(file))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UsageError, match="not valid Parquet"):
        list(read_examples(file))


def test_unreadable_and_unwritable_places_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl does not exist"):
        list(read_examples(tmp_path / "none.jsonl"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"should end in \.jsonl"):
        list(read_examples(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match=r"should end in \.jsonl or \.parquet"):
        write_examples(tmp_path / "a.txt", [EXAMPLE])
    with pytest.raises(UsageError, match="cannot write"):
        write_examples(tmp_path / "a.txt" / "b.jsonl", [EXAMPLE])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"examples{suffix}"
    write_examples(file, [EXAMPLE])

    def broken() -> object:
        yield Example("new", (PathText("x"),))
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError):
        write_examples(file, broken())  # type: ignore[arg-type]
    assert list(read_examples(file)) == [EXAMPLE]
    assert list(tmp_path.iterdir()) == [file]


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for value in (float("nan"), object()):
        with pytest.raises(UsageError, match="cannot write 'abc'"):
            write_questions(tmp_path / "q.jsonl", [Question("abc", "q", metadata={"x": value})])


def test_parquet_is_what_datasets_and_the_hub_read(tmp_path: Path) -> None:
    from datasets import load_dataset

    write_examples(tmp_path / "train.parquet", [EXAMPLE])
    loaded = load_dataset(str(tmp_path), split="train", streaming=True)
    assert list(loaded) == [EXAMPLE.to_dict()]


def test_many_rows_take_several_groups_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "examples.parquet"
    many = [Example(f"question {i}", (PathText("x" * i),), id=str(i)) for i in range(200)]
    assert write_examples(file, iter(many)) == 200
    assert list(read_examples(file)) == many


def test_a_built_dataset_is_read_by_its_splits(tmp_path: Path) -> None:
    def example(text: str, split: str) -> Example:
        return Example(text, (PathText("x"),), id=text, split=split)

    write_examples(tmp_path / "train.parquet", [example("a", "train"), example("b", "train")])
    write_examples(tmp_path / "validation.parquet", [example("c", "validation")])
    (tmp_path / "test.jsonl").write_text('{"question": "d", "id": "d", "paths": ["x"]}\n')
    (tmp_path / "report.json").write_text("{}")
    assert [e.id for e in read_examples(tmp_path)] == ["a", "b", "c", "d"]
    assert [e.id for e in read_examples(tmp_path, split="validation")] == ["c"]
    assert [e.split for e in read_examples(tmp_path, split="test")] == ["test"]


def test_a_dataset_in_pieces_is_read_as_the_hub_names_them(tmp_path: Path) -> None:
    for i in range(2):
        file = tmp_path / "data" / f"train-0000{i}-of-00002.parquet"
        write_examples(file, [Example(str(i), (PathText("x"),), id=str(i))])
    assert [e.id for e in read_examples(tmp_path)] == ["0", "1"]


def test_a_folder_without_splits_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"no built dataset.*it holds notes\.txt"):
        list(read_examples(tmp_path))


QUESTION = "What is |x|<|y|> 0 for? Let $x = 6$."
PROMPT = (
    f"<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>{QUESTION} You FIRST think about "
    "the reasoning process. The summary MUST BE within <summary> </summary> tags. The final answer "
    "MUST BE put in \\boxed{}.<\uff5cAssistant\uff5c><think>"
)
WRAPPED = (
    "<think1>\nSix.\nSeven.</think1><think2>It is cut o<think4>42, I think.</think4><vllm_pad>"
    "<summary>The final answer is \\boxed{42}.</summary><\uff5cend\u2581of\u2581sentence\uff5c>"
)
RELEASED = Example(
    question=QUESTION,
    paths=(
        PathText("Six.\nSeven."),
        PathText("It is cut o", learn=False),
        PathText("42, I think."),
    ),
    summary="The final answer is \\boxed{42}.",
    id=question_id(QUESTION),
    answer="42",
    source="parathinker-math-6K",
)


def write_rows(file: Path, *rows: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    "row",
    [
        {"text": PROMPT + WRAPPED},
        {"prompt": PROMPT, "completion": WRAPPED},
        {"problem": QUESTION, "output": WRAPPED.replace("think1", "think 1")},
        {
            "question": QUESTION,
            "reasoning_paths": ["<think1>Six.\nSeven.</think1>", "It is cut o", "42, I think."],
            "summary": "<summary>The final answer is \\boxed{42}.</summary>",
        },
    ],
    ids=["one text", "prompt and completion", "problem and output", "list of paths"],
)
def test_wrapped_texts_become_examples_without_control_tokens(
    tmp_path: Path, row: dict[str, object]
) -> None:
    (read,) = read_examples(write_rows(tmp_path / "a.jsonl", row))
    told = "reasoning_paths" in row  # where paths are a list, nobody knows which were cut off
    paths = tuple(replace(path, learn=path.learn or told) for path in RELEASED.paths)
    assert read == replace(RELEASED, source="", paths=paths)


def test_paths_without_a_summary_are_read(tmp_path: Path) -> None:
    row = {"problem": "q", "thoughts": ["a", "b"], "final_answer": "3"}
    (example,) = read_examples(write_rows(tmp_path / "a.jsonl", row))
    assert (example.paths, example.summary) == ((PathText("a"), PathText("b")), None)
    assert example.answer == "3"


def released_tokenizer() -> Tokenizer:
    """Bytes, and the special tokens of DeepSeek's and ParaThinker's vocabularies."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    bar = "\uff5c"
    names = [f"<{bar}{n}{bar}>" for n in ("User", "Assistant", "begin\u2581of\u2581sentence")]
    names += [f"<{bar}end\u2581of\u2581sentence{bar}>", "<think>", *control_token_names(8)]
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    return tokenizer


def test_token_ids_as_released_are_read_with_the_tokenizer_beside_them(tmp_path: Path) -> None:
    from datasets import Dataset

    tokenizer = released_tokenizer()
    ids = tokenizer.encode(PROMPT + WRAPPED).ids
    row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(ids)}
    Dataset.from_list([row, row]).save_to_disk(tmp_path / "train")
    Dataset.from_list([row]).save_to_disk(tmp_path / "test")
    with pytest.raises(UsageError, match=r"tokenizer\.json of ParaThinker-1\.5B.*none lies beside"):
        list(read_examples(tmp_path))

    (tmp_path / "elsewhere").mkdir()
    tokenizer.save(str(tmp_path / "elsewhere" / "tokenizer.json"))
    read = list(read_examples(tmp_path, tokenizer=tmp_path / "elsewhere"))
    assert [e.split for e in read] == ["train", "train", "test"]
    assert read[0] == RELEASED
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert list(read_examples(tmp_path)) == read
    # The one beside them is theirs, whichever is named.
    (tmp_path / "elsewhere" / "tokenizer.json").write_text("another")
    assert list(read_examples(tmp_path, tokenizer=tmp_path / "elsewhere")) == read
    assert list(read_examples(tmp_path / "train")) == read[:2]


def test_token_ids_of_another_tokenizer_are_noticed(tmp_path: Path) -> None:
    row = {"input_ids": [1, 2, 3]}
    released_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UsageError, match=r"a\.jsonl:1: no path opens .*another tokenizer"):
        list(read_examples(write_rows(tmp_path / "a.jsonl", row)))


def test_a_layout_that_is_not_known_is_refused_by_its_columns(tmp_path: Path) -> None:
    row = {"problem": "q", "generations": ["a"]}
    with pytest.raises(UsageError, match=r"a\.jsonl:1: .*it has 'problem', 'generations'"):
        list(read_examples(write_rows(tmp_path / "a.jsonl", row)))
