"""The page's reader shows each answer with all that it was made from, and how right that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation_runs import LENGTHS, RIGHT, write_run
from parathinker.evaluation.report import write_report
from parathinker.evaluation.report.answers import (
    MOST_CHARACTERS,
    Judge,
    Reader,
    answers_of,
    cut_length,
    shortened,
)
from parathinker.evaluation.report.findings import find
from parathinker.evaluation.store import Outcome, RunStore
from parathinker.scoring import ScoringPool


def reader(folder: Path, questions: int = 200, **limits: int) -> Reader:
    with RunStore(folder) as store:
        return answers_of(store, find(store, "run", "run"), questions, **limits)


@given(st.lists(st.integers(2, 50), min_size=1, max_size=8), st.integers(2, 60), st.integers(0, 9))
def test_where_paths_were_cut_follows_from_the_outcome(
    lengths: list[int], cut: int, summary: int
) -> None:
    kept = [min(length, cut) for length in lengths]
    outcome = Outcome(1.0, (), sum(kept), summary, max(kept) + summary)
    found = cut_length(outcome, lengths)
    assert found is not None
    assert [min(length, found) for length in lengths] == kept


def test_where_paths_were_made_in_steps_nothing_is_said_of_a_cut() -> None:
    assert (
        cut_length(Outcome(1.0, (), path_tokens=70, summary_tokens=0, depth=30), [20, 20]) is None
    )


def test_an_answer_opens_to_its_paths_and_summary(tmp_path: Path) -> None:
    item = reader(write_run(tmp_path, {"majority": (1.0,), "parallel": (0.0,)})).items[0]
    mark = next(one for one in item.marks if (one.method, one.width) == ("parallel", 2))
    (paths, summary) = (item.texts[at] for at in mark.groups)
    assert [path.tokens for path in paths] == list(LENGTHS)
    assert [path.score for path in paths] == [1.0, 0.0]  # as the methods' answers scored
    assert [one.is_summary for one in (*paths, *summary)] == [False, False, True]
    assert (mark.cut, mark.tokens, mark.depth, mark.answers) == (10, 25, 15, ("41",))


def test_a_path_scores_as_an_answer_that_says_the_same(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"majority": (1.0,)})
    with RunStore(run) as store, ScoringPool() as pool:
        judge = Judge(store, pool)
        (question,) = store.questions("products")
        judge.learn(question, Outcome(0.25, ("Answer: 1,007",), 9, 0, 9))
        assert judge.score(question, "So the answer is 1007.") == 0.25
        assert judge.score(question, RIGHT) == 1.0


@pytest.mark.slow
def test_a_path_that_no_method_scored_is_scored_now(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"majority": (1.0,)})
    with RunStore(run) as store, ScoringPool(1) as pool:
        (question,) = store.questions("products")
        judge = Judge(store, pool)
        assert judge.score(question, "It is 84/2.") == 1.0
        assert judge.score(question, "It is 43.") == 0.0


def test_paths_that_methods_share_are_held_once(tmp_path: Path) -> None:
    item = reader(write_run(tmp_path, {"majority": (1.0,), "sequential": (0.0,)})).items[0]
    assert len(item.texts) == 1
    assert [mark.groups for mark in item.marks] == [(0,)] * 4


def test_the_first_questions_are_taken_and_the_page_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"majority": (1.0, 0.0, 1.0)}, samples=2, widths=(2,))
    found = reader(run, questions=2)
    assert [(item.number, item.sample) for item in found.items] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert found.there == 6
    made = write_report([run], tmp_path / "out", answers=2)
    assert "shows 4 of the run's 6 answered questions" in made.page.read_text("utf-8")


def test_where_the_page_would_grow_too_large_each_question_is_shown_once_first(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path, {"majority": (1.0, 0.0)}, samples=2, widths=(2,))
    one = len(json.dumps(reader(run, questions=1).to_dict())) // 2
    found = reader(run, most_bytes=int(2.5 * one))
    assert [(item.number, item.sample) for item in found.items] == [(1, 1), (2, 1)]


def test_of_very_long_texts_the_middle_is_left_out_and_said() -> None:
    text = "".join(map(str, range(10_000)))
    short = shortened(text)
    assert len(short) < MOST_CHARACTERS + 100
    assert short.startswith(text[: MOST_CHARACTERS // 2])
    assert short.endswith(text[-MOST_CHARACTERS // 2 :])
    assert f"{len(text) - MOST_CHARACTERS:,} characters left out" in short
    assert shortened("short") == "short"
