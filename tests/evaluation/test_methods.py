"""Each method against a case worked out by hand: paths that are scripted, not sampled."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from parathinker import UsageError
from parathinker.data.schema import Question
from parathinker.evaluation.generations import CUT, LENGTH, STOP, Generation, Written, shortened
from parathinker.evaluation.lab import Case
from parathinker.evaluation.methods import parse_method
from parathinker.evaluation.methods.summing import Parallel
from parathinker.evaluation.methods.voting import Ballot, Confidence, answer_in, lowest_group
from parathinker.evaluation.store import Outcome

TRUTH = "42"
OPEN, CLOSE, SUMMARY = 900, 901, 902


def path(answer: object, tokens: int, reason: str = STOP, sure: Sequence[float] = ()) -> Written:
    """A path of so many tokens that says its answer; token ids count up, so cuts can be seen."""
    body = range(1, tokens - 1)
    text = f"It is \\boxed{{{answer}}}." if reason == STOP else f"first 7, then {answer}"
    return Written(text, (OPEN, *body, CLOSE), reason, 1, tuple(sure))


class ScriptedLab:
    """What methods ask of a lab, answered from a script.

    Args:
        summary: the text of every summary.
        steps: for each step of a tree, what each branch then is.
    """

    max_paths = 8
    termination = "first-finish"
    thinks = True
    name = "scripted"

    def __init__(
        self,
        paths: Sequence[Written] = (),
        summary: str = "\\boxed{42}",
        room: int = 10_000,
        steps: Sequence[Sequence[Written]] = (),
        samples: Sequence[Written] = (),
    ) -> None:
        self._samples = list(samples)
        self._paths, self._summary, self._room, self._steps = list(paths), summary, room, steps
        self.read: list[Written] = []
        self.grown_by: list[tuple[list[tuple[int, ...]], int, list[int]]] = []
        self.said: dict[str, str] = {}
        """What the model says of a chain, by the chain's text."""

    async def paths(self, case: Case) -> tuple[list[Written], tuple[str, ...]]:
        return [self.limited(one, case.budget) for one in self._paths[: case.width]], ("paths",)

    async def samples(self, case: Case, thought_id: int) -> tuple[list[Written], tuple[str, ...]]:
        return self._samples[: case.width], ("samples",)

    async def chain(
        self, case: Case, tokens: int, forced: bool = False, temperature: float | None = None
    ) -> Generation:
        return Generation("chain", (self.limited(self._paths[0], tokens),), 0.0)

    async def grown(
        self,
        case: Case,
        beginnings: list[tuple[int, ...]],
        tokens: int,
        step: int,
        thought_ids: list[int],
    ) -> Generation:
        assert len(set(thought_ids)) == len(beginnings), "a request has each id once"
        self.grown_by.append((list(beginnings), tokens, list(thought_ids)))
        made = tuple(
            dataclasses.replace(one, thought_id=i)
            for one, i in zip(self._steps[step], thought_ids, strict=True)
        )
        return Generation(f"step {step}", made, 0.0)

    async def asked(self, case: Case, prompt: str, tokens: int) -> Generation:
        (said,) = [said for text, said in self.said.items() if f"\n{text}\n" in prompt]
        return Generation("asked", (Written(said, (OPEN, *range(tokens - 2), CLOSE), STOP),), 0.0)

    async def summary(
        self, case: Case, paths: Sequence[Written], layout: str = "parallel"
    ) -> Generation:
        self.read = list(paths)
        return Generation(
            f"summary {layout}", (Written(self._summary, (SUMMARY, 1, 2), STOP),), 0.0
        )

    def limited(self, one: Written, tokens: int, reason: str = LENGTH) -> Written:
        text = "first 7"
        return one if one.tokens <= tokens else shortened(one, tokens, text, reason)

    def chain_room(self, case: Case, behind: int = 0) -> int:
        return self._room - behind

    def summary_limit(self, case: Case) -> int:
        return case.summary_tokens - 1

    async def score(self, question: Question, text: str) -> float:
        return float(f"{{{question.answer}}}" in text)

    async def same(self, one: str, other: str) -> bool:
        return {one, other} == {"1/2", "0.5"}


def case(width: int, budget: int = 100, summary_tokens: int = 20) -> Case:
    question = Question("q", "What is it?", TRUTH)
    return Case(question, "What is it?", width, budget, summary_tokens, seed=0)


def outcome(method: str, lab: ScriptedLab, one: Case) -> Outcome:
    chosen = parse_method(method)
    chosen.check(one, lab)  # type: ignore[arg-type]
    found = asyncio.run(chosen.answer(one, lab))  # type: ignore[arg-type]
    assert found.tokens <= one.tokens
    return found


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
