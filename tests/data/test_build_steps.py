"""Each step from a question's candidates to its example, by itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sums import candidate, question, thought

from parathinker.data.build.assemble import Assembler, NoExampleError
from parathinker.data.build.lengths import TokenCounter, lengths
from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.similarity import (
    choose_diverse,
    shingles,
    similarity,
    without_near_duplicates,
)
from parathinker.data.build.sources import Candidate, StoredSamples
from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Example
from parathinker.errors import UsageError
from parathinker.scoring import Scored

RIGHT, WRONG, UNKNOWN = Scored(1.0), Scored(0.0), Scored(None)


def mixed(right: int, wrong: int) -> list[tuple[Candidate, Scored]]:
    """Candidates of which the right ones come first."""
    found = [(candidate(i), RIGHT) for i in range(right)]
    return found + [(candidate(i, right=False), WRONG) for i in range(right, right + wrong)]


def assemble(found: list[tuple[Candidate, Scored]], **settings: Any) -> Example:
    return Assembler(BuildSettings(**settings), None).example(question(), found)


def verdicts(example: Example) -> list[bool | None]:
    return [path.correct for path in example.paths]


def reason(found: list[tuple[Candidate, Scored]], **settings: Any) -> str:
    with pytest.raises(NoExampleError) as error:
        assemble(found, **settings)
    return error.value.reason


def test_wrong_paths_are_there_to_be_read_and_not_to_be_learned() -> None:
    example = assemble(mixed(2, 2))
    assert verdicts(example) == [True, True, False, False]
    assert [path.learn for path in example.paths] == [True, True, False, False]
    assert [path.answer for path in example.paths] == ["42", "42", "38", "37"]


def test_keep_right_leaves_wrong_paths_out_and_keep_all_learns_from_them() -> None:
    assert verdicts(assemble(mixed(2, 2), keep="right")) == [True, True]
    everything = assemble([*mixed(1, 2), (candidate(3), UNKNOWN)], keep="all")
    assert all(path.learn for path in everything.paths)
    assert len(everything.paths) == 4


def test_what_a_source_says_is_only_to_be_read_is_not_learned() -> None:
    found = [(candidate(0), RIGHT), (candidate(1, learn=False), RIGHT)]
    for keep in ("right", "right-and-wrong", "all"):
        assert [path.learn for path in assemble(found, keep=keep).paths] == [True, False]


def test_questions_too_easy_or_too_hard_are_dropped() -> None:
    assert "easy" in reason(mixed(4, 0), max_correct=0.9)
    assert "hard" in reason(mixed(1, 3), min_correct=0.3)
    assert verdicts(assemble(mixed(1, 3), min_correct=0.25)) == [True, False, False, False]


def test_without_enough_paths_or_a_right_one_there_is_no_example() -> None:
    assert reason(mixed(1, 0)) == "fewer than 2 paths"
    assert reason(mixed(0, 4)) == "fewer than 1 right"
    assert verdicts(assemble(mixed(0, 2), min_right=0)) == [False, False]


def test_paths_keep_their_thought_ids_where_that_is_asked_for() -> None:
    found = [(candidate(i, thought_id=i + 1), RIGHT) for i in (4, 2, 3)]
    ids = [path.thought_id for path in assemble(found, thought_ids=True).paths]
    assert sorted(i or 0 for i in ids) == [3, 4, 5]
    assert {path.thought_id for path in assemble(found).paths} == {None}


def test_readings_are_drawn_and_each_needs_a_right_path() -> None:
    example = assemble(mixed(1, 3), readings=(1, 1, 1, 1, 2, 2, 2, 3, 4, 8), paths=8)
    assert example.summary is not None
    sizes = [len(reading) for reading in example.readings]
    assert sizes[-2:] == [4, 4]  # of eight there are four
    assert 2 < len(sizes) < 10
    for reading in example.readings:
        assert len(set(reading)) == len(reading)
        assert any(example.paths[i].correct for i in reading)
    assert len(assemble(mixed(0, 4), readings=(1, 2), min_right=0).readings) == 2
    assert assemble(mixed(1, 3)).readings == ()


def test_readings_of_wrong_paths_are_kept_where_these_hold_the_answer_in_parts() -> None:
    texts = ("So it is 47.", "Then it is 32.", "Both make 35.")  # of 42
    found = [(candidate(i, text=text), WRONG) for i, text in enumerate(texts)]
    example = assemble(found, readings=(1, *[2] * 12, 3), parts=True, min_right=0)
    assert example.summary is not None
    assert {frozenset(reading) for reading in example.readings} == {
        frozenset((0, 1)),
        frozenset((0, 1, 2)),
    }
    with pytest.raises(UsageError, match="parts should be given with readings only"):
        BuildSettings(parts=True)


def test_without_a_reading_that_can_be_learned_there_is_no_summary() -> None:
    alone = assemble(mixed(1, 7), readings=(1,), paths=8)
    assert alone.readings == ()
    assert alone.summary is None
    with pytest.raises(UsageError, match="readings should be from 1 to paths, 8, each"):
        BuildSettings(readings=(1, 9))


def test_paths_that_ran_out_of_tokens_are_left_out_or_kept_as_wrong_ones() -> None:
    found = [*mixed(2, 0), (candidate(2, finished=False), UNKNOWN)]
    assert len(assemble(found).paths) == 2
    kept = assemble(found, unfinished=True)
    assert verdicts(kept) == [True, True, False]
    assert not kept.paths[2].learn
    assert not assemble(found, unfinished=True, keep="all").paths[2].learn


def test_what_could_not_be_checked_in_time_is_not_right() -> None:
    assembler = Assembler(BuildSettings(), None)
    found = [*mixed(1, 0), (candidate(1), Scored(0.0, "timed out"))]
    assert verdicts(assembler.example(question(), found)) == [True, False]
    assert assembler.verdicts == {"right": 1, "timed out": 1}


def test_near_duplicate_paths_are_dropped_unless_only_one_of_them_is_right() -> None:
    long = "Then I check the sum once more, digit by digit, from the left to the right. " * 3
    found = [
        (candidate(0, text=thought(0, words=long)), RIGHT),
        (candidate(1, text=thought(0, words=long) + " Done."), RIGHT),
        (candidate(2, text=thought(0, right=False, words=long)), WRONG),
        (candidate(3), RIGHT),
    ]
    example = assemble(found)
    assert [path.text for path in example.paths] == [found[i][0].text for i in (0, 2, 3)]


def test_a_models_own_paths_may_be_kept_even_if_they_are_equal() -> None:
    found = [(candidate(i, text=thought(0)), RIGHT) for i in range(4)]
    assert reason(found) == "fewer than 2 paths"
    assert len(assemble(found, near_duplicates=True).paths) == 4


def test_the_paths_chosen_are_those_that_differ_most() -> None:
    alike = [thought(0, words=f"Step {i}. ") for i in range(5)]
    texts = [*alike, thought(1), thought(2)]
    sets = [shingles(text) for text in texts]
    assert choose_diverse(sets, [False] * 7, 3, 3, 3) == [0, 5, 6]


paths = st.lists(st.sampled_from("abcde"), min_size=3, max_size=9).map(" ".join)


@given(
    st.lists(st.tuples(paths, st.booleans()), max_size=9),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_choosing_keeps_to_its_quotas_and_is_as_full_as_they_allow(
    given_paths: list[tuple[str, bool]], count: int, most_wrong: int, most_right: int
) -> None:
    sets = [shingles(text) for text, _ in given_paths]
    wrong = [is_wrong for _, is_wrong in given_paths]
    chosen = choose_diverse(sets, wrong, count, most_wrong, most_right)
    chosen_wrong = sum(wrong[i] for i in chosen)
    assert chosen == sorted(set(chosen))
    assert chosen_wrong <= most_wrong
    assert len(chosen) - chosen_wrong <= most_right
    possible = min(sum(wrong), most_wrong) + min(len(wrong) - sum(wrong), most_right)
    assert len(chosen) == min(count, possible)


@given(st.lists(paths, max_size=8))
def test_no_two_kept_texts_are_near_duplicates_and_every_dropped_one_is(texts: list[str]) -> None:
    sets = [shingles(text) for text in texts]
    kept = without_near_duplicates(sets, [True] * len(sets), 0.6)
    for i in range(len(sets)):
        close = any(similarity(sets[i], sets[j]) >= 0.6 for j in kept if j < i)
        assert close == (i not in kept)


def test_a_share_of_wrong_paths_is_aimed_for_and_filled_up_where_one_kind_is_short() -> None:
    many = mixed(4, 4)
    assert verdicts(assemble(many, paths=4, wrong_share=0.25)).count(False) == 1
    assert verdicts(assemble(many, paths=4, wrong_share=0.5)).count(False) == 2
    assert verdicts(assemble(mixed(4, 0), paths=4, wrong_share=0.5)).count(True) == 4
    assert verdicts(assemble(mixed(1, 4), paths=4, wrong_share=0.25)).count(False) == 3


def test_summaries_are_a_template_a_teachers_answer_a_right_path_or_none() -> None:
    found = [
        (candidate(0, right=False, reply="It is 40."), WRONG),
        (candidate(1, reply="Adding both gives 42, and nothing is carried."), RIGHT),
        (candidate(2, text="Short.\n\nIt is 42.", reply="42!"), RIGHT),
    ]
    assert assemble(found).summary == (
        "By analyzing multiple reasoning processes above, I concluded that: "
        r"The final answer is \boxed{42}."
    )
    assert assemble(found, summary_template="= {answer}").summary == "= 42"
    teacher = "Adding both gives 42, and nothing is carried."
    assert assemble(found, summary="teacher").summary == teacher
    assert assemble(found, summary="right-path").summary == "42!"
    assert assemble(found, summary="none").summary is None
    silent = [(Candidate(i, one.text, one.text), scored) for i, (one, scored) in enumerate(found)]
    assert assemble(silent, summary="right-path").summary == "It is 42."
    assert reason(silent, summary="teacher") == "nothing to sum up with"


def test_without_a_reference_the_answer_that_most_paths_agree_on_is_summed_up() -> None:
    settings = BuildSettings(keep="all", min_right=0, summary_template="{answer}")
    unknown = question(answer=None)
    agreeing = [(candidate(i, right=i != 1), UNKNOWN) for i in range(3)]
    assert Assembler(settings, None).example(unknown, agreeing).summary == "42"
    with pytest.raises(NoExampleError, match="nothing to sum up with"):
        Assembler(settings, None).example(unknown, [(candidate(0), UNKNOWN), agreeing[1]])


def test_lengths_are_those_of_the_graph() -> None:
    found = lengths(10, (5, 7, 3), 4)
    assert (found.total, found.positions) == (29, 21)
    assert lengths(10, (5, 7, 3), None).positions == 17


def test_tokens_are_counted_as_training_lays_them_out(tiny_random_model: Path) -> None:
    import random

    from parathinker.prompt import PromptCodec
    from parathinker.training.batch import encode_example

    example = assemble(mixed(2, 1))
    counted = TokenCounter(tiny_random_model).example(example)
    graph = encode_example(
        example, PromptCodec.from_folder(tiny_random_model), random.Random(0)
    ).graph
    assert counted.total == graph.length
    assert counted.positions == max(graph.positions()) + 1
    assert (counted.prompt, *counted.paths) == tuple(s.length for s in graph.segments[:-1])


def test_a_tokenizer_without_control_tokens_counts_as_one_with_them(
    tiny_random_model: Path, tmp_path: Path
) -> None:
    plain = json.loads((tiny_random_model / "tokenizer.json").read_text())
    plain["added_tokens"] = [t for t in plain["added_tokens"] if "think" not in t["content"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    assert TokenCounter(tmp_path).path(thought(0)) == TokenCounter(tiny_random_model).path(
        thought(0)
    )
    with pytest.raises(UsageError, match="tokenizer"):
        TokenCounter(tmp_path / "nowhere")


def test_an_example_that_is_too_long_loses_its_longest_paths_and_then_itself(
    tiny_random_model: Path,
) -> None:
    counter = TokenCounter(tiny_random_model)
    found = [*mixed(3, 0), (candidate(3, text=thought(3, words="And on. " * 50)), RIGHT)]
    whole = counter.example(assemble(found))

    def limited(**limits: int) -> Example:
        settings = BuildSettings(tokenizer=str(tiny_random_model), **limits)
        return Assembler(settings, counter).example(question(), found)

    assert len(limited(max_tokens=whole.total).paths) == 4
    assert len(limited(max_tokens=whole.total - 1).paths) == 3
    assert len(limited(max_positions=whole.positions - 1).paths) == 3
    assert len(limited(max_path_tokens=max(whole.paths) - 1).paths) == 3
    with pytest.raises(NoExampleError, match="too long"):
        limited(max_tokens=whole.prompt)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": "best"}, "keep should be one of right, right-and-wrong, all"),
        ({"min_paths": 9}, "min_paths should be at most paths, 8"),
        ({"validation": 1.5}, "validation should be from 0 to 1"),
        ({"max_tokens": 100}, "tokenizer should be given"),
        ({"summary_template": "no answer"}, "summary_template"),
        ({"keep": "right", "wrong_share": 0.5}, "keep is 'right'"),
        ({"summaries": "s.sqlite"}, "summaries should be given with summary 'teacher' only"),
        ({"benchmarks": ("aime1983",)}, "benchmarks should be of aime24"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        BuildSettings(**settings)


@pytest.mark.parametrize(
    ("reasoning", "answer", "path_text", "expected"),
    [
        ("Hm.", "42", "reasoning", ("Hm.", "42", "42")),
        ("Hm.", "42", "whole", ("Hm.\n\n42", "42", "42")),
        ("", "Hm, 42", "reasoning", ("Hm, 42", "Hm, 42", "")),  # a teacher that hides its thoughts
        ("Hm, 42", "", "whole", ("Hm, 42", "Hm, 42", "")),  # a path of our own engine
    ],
)
def test_a_sample_gives_a_path_a_text_to_score_and_a_reply(
    tmp_path: Path, reasoning: str, answer: str, path_text: str, expected: tuple[str, str, str]
) -> None:
    settings = SamplingSettings(models=("m",))
    with SampleStore.begin(tmp_path / "s.sqlite", settings, [question()]) as store:
        sample = Sample(question().id, 0, reasoning, answer, "stop", "m", "e", 1, 1, 0.1, None)
        store.add(sample, dataclasses.replace(sample, index=1, finish_reason="length"))
    source = StoredSamples(tmp_path / "s.sqlite", path_text)
    first, second = source.candidates(question().id)
    source.close()
    assert (first.text, first.answer_text, first.reply) == expected
    assert (first.finished, second.finished) == (True, False)
