"""Each method against a case worked out by hand: paths that are scripted, not sampled."""

from __future__ import annotations

import dataclasses

import pytest

from parathinker import UsageError
from parathinker.data.schema import Question
from parathinker.evaluation.generations import CUT, LENGTH
from parathinker.evaluation.methods import parse_method
from parathinker.evaluation.methods.summing import Parallel
from parathinker.evaluation.methods.voting import answer_in
from scripted_lab import CLOSE, OPEN, ScriptedLab, case, outcome, path


@pytest.mark.parametrize(
    ("termination", "lengths"),
    [("first-finish", [20, 20, 20, 20]), ("half-finish", [30, 20, 30, 30]),
     ("last-finish", [40, 20, 30, 95])],
)  # fmt: skip
def test_paths_are_cut_where_thinking_ends(termination: str, lengths: list[int]) -> None:
    lab = ScriptedLab([path(1, 40), path(2, 20), path(3, 30), path(4, 100)])
    found = outcome(f"parallel:termination={termination}", lab, case(4))
    assert [one.tokens for one in lab.read] == lengths
    assert (found.path_tokens, found.summary_tokens) == (sum(lengths), 3)
    assert found.depth == max(lengths) + 3
    assert (found.score, found.generations) == (1.0, ("paths", "summary parallel"))
    for one, length in zip(lab.read, lengths, strict=True):
        assert one.token_ids == (OPEN, *range(1, length - 1), CLOSE)
    assert lab.read[3].finish_reason == (LENGTH if termination == "last-finish" else CUT)


def test_re_prefill_reads_the_same_paths_as_one_text_and_counts_that() -> None:
    lab = ScriptedLab([path(1, 40), path(2, 20)])
    found = outcome("reprefill", lab, case(2))
    assert found.generations == ("paths", "summary chain")
    assert (found.tokens, found.prefill_tokens) == (43, 40)
    tight = ScriptedLab([path(1, 40), path(2, 20)], room=59)
    found = outcome("reprefill", tight, case(2))
    assert (found.score, found.note, found.tokens) == (0.0, "too long for the context", 40)
    assert parse_method("reprefill").remark(case(2), tight) is not None  # type: ignore[arg-type]


def test_flat_positions_read_the_same_paths_each_behind_the_one_before() -> None:
    lab = ScriptedLab([path(1, 40), path(2, 20)])
    found = outcome("flat-positions", lab, case(2))
    assert found.generations == ("paths", "summary flat-positions")
    assert (found.tokens, found.prefill_tokens) == (43, 0), "nothing is read again"
    tight = ScriptedLab([path(1, 40), path(2, 20)], room=59)
    assert outcome("flat-positions", tight, case(2)).note == "too long for the context"


def test_a_summary_without_paths_gets_none_of_their_tokens() -> None:
    lab = ScriptedLab([path(1, 40), path(2, 20)])
    assert outcome("withheld", lab, case(2)).path_tokens == 4
    assert [one.token_ids for one in lab.read] == [(OPEN, CLOSE)] * 2
    with pytest.raises(UsageError, match="second question"):
        outcome("shuffled", lab, case(2))
    other = dataclasses.replace(case(2), budget=25)
    outcome("shuffled", lab, dataclasses.replace(case(2), other=other))
    assert [one.tokens for one in lab.read] == [15, 15], "cut to the other case's budget"


def test_a_chain_has_the_whole_budget_and_says_where_the_context_ends_it() -> None:
    lab = ScriptedLab([path(42, 250)])
    found = outcome("sequential", lab, case(4))
    assert (found.score, found.tokens, found.note) == (1.0, 250, "")
    found = outcome("sequential", lab, case(2))
    assert (found.score, found.tokens, found.note) == (0.0, 200, "out of tokens")
    short = ScriptedLab([path(42, 250)], room=150)
    found = outcome("sequential", short, case(4))
    assert (found.tokens, found.note) == (150, "out of context")
    remark = parse_method("sequential").remark(case(4), short)  # type: ignore[arg-type]
    assert remark is not None
    assert "150 tokens" in remark
    found = outcome("sequential:summary=true", lab, case(2))
    assert (found.path_tokens, found.summary_tokens, found.score) == (180, 3, 1.0)
    with pytest.raises(UsageError, match="nothing for the chain"):
        outcome("sequential:summary=true", lab, case(1, budget=20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paralel", "did you mean parallel"),
        ("parallel:terminatoin=x", "did you mean termination"),
        ("parallel:termination=never", "one of first-finish"),
        ("short:m=few", "a whole number; got 'few'"),
        ("short:m=0", "1 or more"),
        ("confidence:keep=0", "above 0"),
        ("sequential:forced=perhaps", "true or false"),
        ("tree:breadth", "name=value"),
    ],
)
def test_a_method_that_is_not_there_is_refused_with_what_would_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_method(text)


def test_a_label_names_what_is_not_the_default() -> None:
    assert parse_method("parallel:termination=first-finish").label == "parallel"
    assert parse_method("confidence:keep=10").label == "confidence:keep=10"
    assert parse_method("sequential:forced=yes").label == "sequential:forced=true"


@pytest.mark.parametrize(
    ("metadata", "text", "complete", "answer"),
    [
        ({}, "so \\boxed{x+1}", False, "x+1"),
        ({}, "so it is 7", True, "7"),
        ({}, "so it is 7", False, None),
        ({"task": "t", "entry": {"answer": "5"}}, "Answer: 5 apples", True, "5"),
        ({"task": "t", "entry": {"answer": "cab"}}, "abc", True, "abc"),
        ({"task": "t", "entry": {"answer": "cab"}}, "abc", False, None),
    ],
)
def test_an_answer_is_read_as_the_questions_scorer_reads_it(
    metadata: dict[str, object], text: str, complete: bool, answer: str | None
) -> None:
    question = Question("q", "?", "5", metadata=metadata)
    assert answer_in(question, text, complete) == answer


def test_native_thinking_says_where_the_model_would_end_it_elsewhere() -> None:
    lab = ScriptedLab()
    lab.termination = "last-finish"
    remark = parse_method("parallel").remark(case(4), lab)  # type: ignore[arg-type]
    assert remark is not None
    assert "parallel:termination=last-finish" in remark
    for chosen in ("parallel:termination=half-finish", "parallel:termination=last-finish"):
        assert parse_method(chosen).remark(case(4), lab) is None  # type: ignore[arg-type]
    assert Parallel.of(lab).termination == "last-finish"  # type: ignore[arg-type]
