"""Keeping training questions clear of the benchmarks, and finding questions that repeat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.benchmarks import BENCHMARKS, load_benchmark
from parathinker.data.build.decontaminate import Decontaminator, read_benchmarks, words_of
from parathinker.data.build.questions import decontaminated, split_of, unique_questions
from parathinker.data.build.similarity import near_duplicate_questions, shingles, similarity
from parathinker.data.schema import Question, question_id
from parathinker.errors import UsageError

LONG = "Find the sum of all integer bases b greater than 9 for which 17 in base b divides 97"
SHORT = "What is the smallest prime that divides 91 evenly"


def asked(text: str, answer: str | None = None, source: str = "") -> Question:
    return Question(question_id(text), text, answer, source)


@pytest.fixture(scope="module")
def all_benchmarks() -> Decontaminator:
    return Decontaminator(read_benchmarks(BENCHMARKS, ()))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_question_of_every_benchmark_is_found_again(
    name: str, all_benchmarks: Decontaminator
) -> None:
    for question in load_benchmark(name):
        disguised = question.question.upper().replace("$", " ").replace("\n", "  ")
        for text in (question.question, f"  {question.question}\n", disguised):
            match = all_benchmarks.match(text)
            assert match is not None, question.question
            assert match.shared


def test_a_benchmark_question_inside_a_longer_one_is_found_with_the_words_they_share() -> None:
    clear = Decontaminator({"mine": [asked(LONG)]})
    match = clear.match(f"Here is a problem. {LONG} Answer with one number, please.")
    assert match is not None
    assert (match.benchmark, match.benchmark_question) == ("mine", LONG)
    assert len(match.shared.split()) == 13


def test_twelve_shared_words_are_allowed_and_thirteen_are_not() -> None:
    clear = Decontaminator({"mine": [asked(LONG)]})
    words = LONG.split()
    assert clear.match(" ".join(["Compute", *words[:12], "nothing at all"])) is None
    assert clear.match(" ".join(["Compute", *words[:13], "nothing at all"])) is not None


def test_numbers_are_words_so_another_problem_of_the_same_kind_is_kept() -> None:
    clear = Decontaminator({"mine": [asked(LONG)]})
    assert clear.match(LONG.replace("97", "98").replace("17", "18").replace("9 ", "8 ")) is None


def test_a_short_benchmark_question_is_found_whole_and_a_very_short_one_only_alone() -> None:
    clear = Decontaminator({"mine": [asked(SHORT), asked("Compute sin 60")]})
    assert clear.match(f"Tell me: {SHORT}? Think first.") is not None
    assert clear.match("compute $\\sin 60$.") is not None
    assert clear.match("Compute sin 60 plus the cosine of everything") is None


@given(st.lists(st.sampled_from(["sum", "of", "7", "x"]), min_size=1, max_size=30))
def test_a_question_always_matches_itself(words: list[str]) -> None:
    text = " ".join(words)
    assert Decontaminator({"mine": [asked(text)]}).match(text) is not None


def test_what_was_dropped_names_the_pair_that_matched() -> None:
    benchmarks = Decontaminator({"mine": [asked(LONG)]})
    kept, tally, dropped = decontaminated([asked(LONG), asked("What is 2 + 3?")], benchmarks)
    assert [question.question for question in kept] == ["What is 2 + 3?"]
    assert (tally.kept, dict(tally.dropped)) == (1, {"in mine": 1})
    assert dropped[0].question == LONG
    assert dropped[0].detail["benchmark_question"] == LONG


def test_an_own_file_of_questions_is_a_benchmark_too(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_benchmarks((), (f"{tmp_path}/none.jsonl",))


def test_words_do_not_depend_on_case_markup_or_width() -> None:
    assert words_of("Find $X_{12}$, e.g.\n\\frac{1}{2}") == words_of("find x 12 E.G. FRAC \uff11 2")


def test_the_same_question_is_kept_once_whatever_source_or_looks() -> None:
    first = [asked("What is 2 + 3?", source="a")]
    second = [asked("what  is 2 + 3?", source="b"), asked("What is 3 + 2?", source="b")]
    kept, tally, _ = unique_questions([first, second], 0.9)
    assert [(q.question, q.source) for q in kept] == [
        ("What is 2 + 3?", "a"),
        ("What is 3 + 2?", "b"),
    ]
    assert tally.dropped.total() == 0  # under one id they are one question


def test_the_same_text_under_another_id_is_dropped() -> None:
    kept, tally, dropped = unique_questions([[Question("a", "Why 1?"), Question("b", "why 1?")]], 1)
    assert [q.id for q in kept] == ["a"]
    assert dict(tally.dropped) == {"same text": 1}
    assert dropped[0].detail["of"] == "a"


STORY = (
    "A farmer has {n} sheep and buys {m} more at the market on Sunday, "
    "then walks home along the river with all of them. How many sheep does he have {w}?"
)


def test_a_question_in_nearly_the_same_words_is_dropped_unless_its_numbers_differ() -> None:
    texts = [
        STORY.format(n=3, m=5, w="now"),
        STORY.format(n=3, m=5, w="today"),
        STORY.format(n=4, m=5, w="now"),
        STORY.format(n=5, m=3, w="now"),
    ]
    assert near_duplicate_questions(texts, [None] * 4, 0.85) == {1: 0}


def test_questions_with_different_answers_are_different() -> None:
    texts = [STORY.format(n=3, m=5, w="now"), STORY.format(n=3, m=5, w="left")]
    assert near_duplicate_questions(texts, ["8", "2"], 0.85) == {}
    assert near_duplicate_questions(texts, ["8", None], 0.85) == {1: 0}


words = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join)


@given(st.lists(words, max_size=25), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_index_finds_what_comparing_all_with_all_finds(
    texts: list[str], threshold: float
) -> None:
    expected: dict[int, int] = {}
    sets = [shingles(text) for text in texts]
    for i in range(len(texts)):
        for j in range(i):
            if j not in expected and similarity(sets[i], sets[j]) >= threshold:
                expected[i] = j
                break
    assert near_duplicate_questions(texts, [None] * len(texts), threshold) == expected


def test_a_question_stays_in_its_split_when_others_are_added() -> None:
    ids = [question_id(f"question {i}") for i in range(4000)]
    splits = [split_of(one, 0.02) for one in ids]
    assert splits == [split_of(one, 0.02) for one in ids]
    assert 40 <= splits.count("validation") <= 130
    # A larger share keeps those that were in it before.
    assert all(
        split_of(one, 0.1) == "validation"
        for one, split in zip(ids, splits, strict=True)
        if split == "validation"
    )
    assert {split_of(one, 0) for one in ids} == {"train"}
    assert {split_of(one, 1) for one in ids} == {"validation"}
