"""Trees of thoughts against cases worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from parathinker import UsageError
from parathinker.evaluation.generations import LENGTH, STOP, Written
from parathinker.evaluation.methods import parse_method
from scripted_lab import CLOSE, OPEN, ScriptedLab, case, outcome


def grown(text: str, tokens: int, likelihood: float, reason: str = LENGTH) -> Written:
    body = tuple(range(1, tokens - 1))
    return Written(text, (OPEN, *body, CLOSE), reason, 1, (1.0,) * len(body), (likelihood,))


def test_a_tree_keeps_the_likeliest_chains_and_shares_out_what_is_left() -> None:
    # 200 tokens, two steps of two branches: 50 each, of which 2 open and close.
    # Both branches of the one chain that goes on are behind its own id, so a request each.
    steps = [
        [grown("a", 50, -48.0), grown("b \\boxed{1}", 20, -36.0, STOP)],
        [grown("a \\boxed{42}", 60, -2.0, STOP)],
        [],
        [grown("a \\boxed{5}", 70, -99.0, STOP)],
    ]
    lab = ScriptedLab(steps=steps)
    found = outcome("tree:depth=2", lab, case(2))
    # The second step has 200 - 70 tokens left, 65 for each of two branches of the one that goes on.
    body = tuple(range(1, 49))
    assert lab.grown_by == [([(), ()], 49, [1, 2]), ([body], 64, [1]), ([body], 64, [1])]
    assert (found.score, found.answers) == (1.0, ("a \\boxed{42}",))
    assert found.path_tokens == 50 + 20 + (60 - 48) + (70 - 48)
    assert (found.depth, found.prefill_tokens) == (50 + 22, 96)


def test_a_chain_of_a_tree_goes_on_behind_the_id_that_it_began_with() -> None:
    steps = [
        [grown("a", 30, -90.0), grown("b", 30, -9.0), grown("c", 30, -8.0)],
        [grown("c \\boxed{1}", 50, -99.0, STOP), grown("b \\boxed{2}", 50, -99.0, STOP)],
        [],
        [grown("c \\boxed{42}", 50, -1.0, STOP)],
    ]
    lab = ScriptedLab(steps=steps)
    assert outcome("tree:depth=2", lab, case(3)).answers == ("c \\boxed{42}",)
    assert [ids for _, _, ids in lab.grown_by] == [[1, 2, 3], [3, 2], [3]]


def test_a_tree_may_value_chains_by_confidence_and_by_what_the_model_says() -> None:
    def sure(one: Written, confidence: float) -> Written:
        return dataclasses.replace(one, confidences=(confidence,) * len(one.confidences))

    ends = [
        sure(grown("a \\boxed{1}", 30, -1.0, STOP), 2.0),  # the likeliest
        sure(grown("b \\boxed{42}", 30, -50.0, STOP), 9.0),  # the surest of its tokens
        sure(grown("c \\boxed{3}", 30, -90.0, STOP), 4.0),
    ]
    answers = {}
    for value in ("likelihood", "confidence", "asked"):
        lab = ScriptedLab(steps=[ends])
        lab.said = {
            ends[0].text: "Likely, I am not sure.",  # the first word counts
            ends[1].text: "impossible",
            ends[2].text: "It is sure.",
        }
        found = outcome(f"tree:depth=1,value={value}", lab, case(3))
        answers[value] = found.answers[0][0]
        judging = 10 if value == "asked" else 0
        assert (found.path_tokens, found.depth) == (3 * (30 + judging), 30 + judging)
    assert answers == {"likelihood": "a", "confidence": "b", "asked": "c"}


def test_chains_of_which_the_model_says_the_same_are_ordered_by_likelihood() -> None:
    ends = [grown("a \\boxed{1}", 30, -9.0, STOP), grown("b \\boxed{42}", 30, -1.0, STOP)]
    lab = ScriptedLab(steps=[ends])
    lab.said = dict.fromkeys((one.text for one in ends), "who knows")
    assert outcome("tree:depth=1,value=asked", lab, case(2)).score == 1.0


def test_a_tree_that_is_too_high_for_its_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="too small for 30 steps"):
        outcome("tree:depth=30", ScriptedLab(), case(1))
    with pytest.raises(UsageError, match="value should be one of"):
        parse_method("tree:value=luck")
