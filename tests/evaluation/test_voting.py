"""Votes and choices among paths against cases worked out by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from parathinker import UsageError
from parathinker.evaluation.generations import LENGTH, STOP, Written
from parathinker.evaluation.lab import Case
from parathinker.evaluation.methods import parse_method
from parathinker.evaluation.methods.voting import Ballot, Confidence, lowest_group
from parathinker.evaluation.store import Outcome
from scripted_lab import CLOSE, OPEN, ScriptedLab, case, outcome, path


def test_the_majority_wins_and_every_path_is_paid_for() -> None:
    lab = ScriptedLab([path(1, 10), path(42, 30), path(42, 20)])
    assert outcome("majority", lab, case(3)) == Outcome(
        1.0, ("It is \\boxed{42}.",), 60, 0, 30, generations=("paths",)
    )
    assert outcome("majority", lab, case(1)).score == 0.0, "the first alone is wrong"


def test_a_vote_may_be_among_samples_of_one_thought_id() -> None:
    lab = ScriptedLab([path(41, 30)] * 3, samples=[path(42, 20)] * 3)
    found = outcome("majority:thought_id=2", lab, case(3))
    assert (found.score, found.path_tokens) == (1.0, 60)
    assert outcome("majority", lab, case(3)).score == 0.0
    assert outcome("short:m=1,thought_id=2", lab, case(3)).score == 1.0
    with pytest.raises(UsageError, match="scripted has thought ids up to 8; got 9"):
        outcome("majority:thought_id=9", lab, case(3))


def test_paths_that_say_they_are_wrong_have_no_vote_unless_all_do() -> None:
    doubted = [dataclasses.replace(path(41, 9), text="Wrong! \\boxed{41}")] * 3
    lab = ScriptedLab([*doubted, path(42, 20)])
    assert outcome("majority", lab, case(4)).score == 0.0
    found = outcome("majority:without=!", lab, case(4))
    assert (found.score, found.path_tokens, found.note) == (1.0, 47, "")
    assert outcome("short:m=4,without=!", lab, case(4)).score == 1.0
    assert outcome("majority:without=!", lab, case(3)).answers == (doubted[0].text,)


def test_answers_that_tie_share_the_question() -> None:
    lab = ScriptedLab([path(1, 10), path(42, 30), path(2, 9), path(42, 9), path(1, 9)])
    found = outcome("majority", lab, case(5))
    assert (found.score, found.note) == (0.5, "tie of 2")
    assert len(found.answers) == 2


def test_answers_that_are_equal_in_mathematics_vote_together() -> None:
    lab = ScriptedLab([path(42, 9), path("1/2", 9), path("0.5", 9)])
    found = outcome("majority", lab, case(3))
    assert (found.score, found.answers) == (0.0, ("It is \\boxed{1/2}.",))


def test_the_last_number_of_half_a_thought_is_no_vote_unless_there_is_no_other() -> None:
    unfinished = [path(13, 100, LENGTH), path(13, 100, LENGTH)]
    found = outcome("majority", ScriptedLab([*unfinished, path(42, 10)]), case(3))
    assert found.score == 1.0
    found = outcome("majority", ScriptedLab(unfinished), case(2))
    assert (found.answers, found.note) == (("first 7, then 13",), "")
    silent = dataclasses.replace(unfinished[0], text="hm")
    assert outcome("majority", ScriptedLab([silent]), case(1)).note == "no answer"


def test_confidence_weighs_votes_and_drops_the_least_sure_paths() -> None:
    # Lowest groups of two: 1, 1, 3; and 2 for the one that says 42.
    paths = [
        path(1, 6, sure=(9, 9, 1, 1)),
        path(1, 6, sure=(1, 1, 9, 9)),
        path(42, 6, sure=(2, 2, 9, 2)),
        path(2, 6, sure=(3, 3, 3, 3)),
    ]
    votes = "confidence:group=2,keep="
    # Of all: 1 has 1 + 1, 42 has 2, 2 has 3.
    assert outcome(votes + "100", ScriptedLab(paths), case(4)).answers == ("It is \\boxed{2}.",)
    assert outcome(votes + "100", ScriptedLab(paths[:3]), case(3)).note == "tie of 2"
    # Those that reach a percentile vote: of confidences 1, 2 and 3 that of 33 % is 1.66, so two of
    # three do. All that are as sure as the last of them do: 1, 1 and 2 reach 1.
    differ = ScriptedLab([paths[0], path(42, 6, sure=(2, 2, 2, 2)), path(42, 6, sure=(3, 3, 3, 3))])
    assert voters(votes + "67", differ, case(3)) == [2.0, 3.0]
    assert voters(votes + "67", ScriptedLab(paths[:3]), case(3)) == [1.0, 1.0, 2.0]
    # The surest alone.
    assert outcome(votes + "10", ScriptedLab(paths[:3]), case(3)).answers == ("It is \\boxed{42}.",)
    # Whoever has no answer is not among the paths that are kept.
    silent = Written("hm", (OPEN, 1, CLOSE), STOP, 1, (99.0,))
    assert outcome(votes + "10", ScriptedLab([silent, paths[2]]), case(2)).score == 1.0


def voters(method: str, lab: ScriptedLab, one: Case) -> list[float]:
    """How much each vote that counts weighs."""
    chosen = parse_method(method)
    assert isinstance(chosen, Confidence)
    votes = [Ballot("1", path) for path in asyncio.run(lab.paths(one))[0]]
    return [vote.weight for vote in chosen.weighed(votes)]


@pytest.mark.parametrize(
    ("paths", "keep", "count"),
    [(8, 90, 7), (8, 10, 1), (4, 90, 3), (2, 90, 1), (1, 90, 1), (16, 90, 14), (16, 100, 16)],
)
def test_as_many_paths_vote_as_reach_the_percentile(paths: int, keep: int, count: int) -> None:
    lab = ScriptedLab([path(1, 6, sure=(float(i),)) for i in range(paths)])
    found = voters(f"confidence:keep={keep}", lab, case(paths))
    assert found == [float(i) for i in range(paths - count, paths)]
    assert count == (paths - 1) * keep // 100 + 1


def test_the_lowest_group_is_the_least_mean_of_neighbours() -> None:
    assert lowest_group([4, 1, 2, 3, 6], 2) == 1.5
    assert lowest_group([4, 1, 2, 3, 6], 99) == 3.2
    assert lowest_group([], 4) == 0.0


def test_likeliest_takes_the_answer_of_the_path_with_the_highest_mean_logprob() -> None:
    def found(*logprobs: Sequence[float]) -> float:
        answers = (7, 42, 7, 7)
        paths = [
            dataclasses.replace(path(answer, 20), logprobs=tuple(given))
            for answer, given in zip(answers, logprobs, strict=False)
        ]
        return outcome("likeliest", ScriptedLab(paths), case(len(paths))).score

    assert found((-1.0, -1.0), (-0.6, -1.0), (-2.0,), (-3.0,)) == 1.0
    assert found((-0.1, -1.0), (-0.6, -1.0)) == 0.0
    assert found((-0.5,), (-0.25, -0.75)) == 0.5  # they tie


def test_short_takes_the_first_m_and_stops_the_others_then() -> None:
    lab = ScriptedLab([path(1, 90), path(42, 20), path(1, 80), path(42, 30), path(7, 25)])
    found = outcome("short:m=3", lab, case(5))
    assert (found.score, found.path_tokens, found.depth) == (1.0, 30 + 20 + 30 + 30 + 25, 30)


def test_short_counts_a_path_that_ran_out_of_tokens_among_the_first() -> None:
    # The second to close ran out of tokens; what it marks as its answer is a vote all the same.
    ran_out = dataclasses.replace(path(42, 100, LENGTH), text="so \\boxed{42}, and")
    lab = ScriptedLab([path(1, 40), ran_out, dataclasses.replace(ran_out, text="hm \\boxed{42}")])
    found = outcome("short:m=2", lab, case(3))
    assert (found.score, found.path_tokens, found.depth) == (1.0, 40 + 100 + 100, 100)
    # The last number of half a thought is none.
    lab = ScriptedLab([path(1, 40), path(42, 100, LENGTH), path(42, 100, LENGTH)])
    assert outcome("short:m=2", lab, case(3)).answers == ("It is \\boxed{1}.",)


def test_short_gives_a_tie_to_the_answer_with_the_shortest_path() -> None:
    # 42 has the shortest path of all; 1 has the shorter ones on average.
    lab = ScriptedLab([path(42, 10), path(42, 90), path(1, 11), path(1, 12)])
    found = outcome("short:m=4", lab, case(4))
    assert (found.score, found.note) == (1.0, "")
    assert outcome("short:m=4", ScriptedLab([path(1, 10), path(42, 11)]), case(2)).score == 0.0


def test_the_best_path_is_the_one_that_scores() -> None:
    found = outcome("best", ScriptedLab([path(1, 10), path(42, 9), path(1, 8)]), case(3))
    assert (found.score, found.note, found.tokens) == (1.0, "1 of 3 right", 27)
    assert outcome("best", ScriptedLab([path(1, 10)]), case(1)).score == 0.0
