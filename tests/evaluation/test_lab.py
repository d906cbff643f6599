"""What methods share is what they would have sampled by themselves, token for token."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from evaluation_runs import Remembering
from parathinker import ParaThinker, ThinkingParams
from parathinker.data.schema import Question
from parathinker.evaluation import benchmarks
from parathinker.evaluation.benchmarks import Selection
from parathinker.evaluation.generations import Generation, Written
from parathinker.evaluation.lab import Case, Forgetful, Lab, Sampling
from parathinker.evaluation.methods import parse_method
from parathinker.params import TERMINATIONS
from parathinker.scoring import ScoringPool
from thinkers import shared

T = TypeVar("T")


class Scoring(Forgetful):
    """Remembers no score, so that each is found out."""

    def score(self, question_id: str, text: str) -> float | None:
        return None


QUESTION = Question("q", "What is 2 + 2?", "4")
WIDEST, BUDGET = 8, 24


@pytest.fixture
def lab(tiny_random_model: Path) -> Iterator[Lab]:
    sampling = Sampling("random", BUDGET, WIDEST, 1.0, 1.0)
    one = Lab(shared(tiny_random_model), sampling, Remembering(), None)
    yield one
    one.close()


def case(width: int, seed: int = 3, budget: int = BUDGET) -> Case:
    return Case(QUESTION, QUESTION.question, width, budget, 10, seed)


def now(what: Awaitable[T]) -> T:
    async def wait() -> T:
        return await what

    return asyncio.run(wait())


def read_by(lab: Lab, method: str, one: Case) -> tuple[list[Written], Written]:
    """The paths that a method's summary reads, and the summary."""

    async def both() -> tuple[list[Written], Written]:
        chosen: Any = parse_method(method)
        paths, _ = await chosen.thought(one, lab)
        found = await chosen.answer(one, lab)
        return paths, lab._store.generation(found.generations[-1]).segments[0]  # type: ignore[union-attr]

    return now(both())


def same_as_thought(lab: Lab, one: Case, termination: str, temperature: float | None) -> None:
    params = ThinkingParams(
        paths=one.width,
        seed=one.seed,
        temperature=temperature,
        termination=termination,
        max_path_tokens=one.path_tokens - 1,
        max_summary_tokens=lab.summary_limit(one),
    )
    answer = lab.model.think(one.prompt, params)
    paths, summary = read_by(lab, f"parallel:termination={termination}", one)
    thought = [(tuple(path.token_ids), path.finish_reason, path.text) for path in answer.paths]
    assert [(path.token_ids, path.finish_reason, path.text) for path in paths] == thought
    assert summary.token_ids == tuple(answer.summary.token_ids)
    assert summary.finish_reason == answer.summary.finish_reason
    assert sum(path.tokens for path in paths) + summary.tokens <= one.tokens


@pytest.mark.parametrize("termination", TERMINATIONS)
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_native_thinking_from_shared_paths_is_what_one_request_would_have_been(
    lab: Lab, width: int, termination: str
) -> None:
    for seed in range(4):
        same_as_thought(lab, case(width, seed), termination, 1.0)
    made: Any = lab._store
    assert made.made.count("paths") == 4, "one for each seed"


def test_the_random_paths_end_in_all_ways(lab: Lab) -> None:
    """What makes the test above one that could fail."""
    reasons = set()
    for seed in range(4):
        paths, _ = now(lab.paths(case(8, seed)))
        reasons |= {path.finish_reason for path in paths}
        assert len({path.tokens for path in paths}) > 2
    assert reasons == {"stop", "length"}


@pytest.mark.parametrize("termination", TERMINATIONS)
def test_the_same_for_the_embedded_model(termination: str) -> None:
    model = shared("tiny")
    questions = benchmarks.load("products", Selection(2))
    with_lab = Lab(model, Sampling("tiny", 256, 4, None, 1.0), Remembering(), None)
    try:
        for question in questions.questions:
            for budget, width in ((256, 3), (100, 2)):
                one = Case(question, questions.ask(question), width, budget, 32, 5)
                same_as_thought(with_lab, one, termination, None)
    finally:
        with_lab.close()


def test_fewer_paths_are_the_first_of_many_with_their_confidences(
    lab: Lab, tiny_random_model: Path
) -> None:
    many, _ = now(lab.paths(case(8)))
    few, _ = now(lab.paths(case(3)))
    assert few == many[:3]
    alone = Lab(lab.model, Sampling("random", BUDGET, 3, 1.0, 1.0), Forgetful(), None)
    sampled, _ = now(alone.paths(case(3)))
    alone.close()
    assert [path.token_ids for path in sampled] == [path.token_ids for path in few]
    for one, other in zip(sampled, few, strict=True):
        assert one.confidences == pytest.approx(other.confidences, abs=2e-4)
        # Every token that was chosen has one: all but the opening, and a closing that was forced.
        forced = 2 if one.finish_reason == "length" else 1
        assert len(one.confidences) in (one.tokens - forced, one.tokens - 2)


def test_paths_beyond_what_the_model_tells_apart_have_other_seeds(lab: Lab) -> None:
    paths, keys = now(lab.paths(case(19)))
    assert (len(paths), len(keys)) == (19, 3)
    assert paths[:8] == now(lab.paths(case(8)))[0]
    assert [path.thought_id for path in paths] == [*range(1, 9), *range(1, 9), 1, 2, 3]
    assert len({path.token_ids for path in paths}) == 19
    assert now(lab.paths(case(11)))[0] == paths[:11]
    assert lab._store.made == ["paths"] * 3  # type: ignore[attr-defined]


def test_samples_are_of_one_thought_id_each_alone_with_a_seed_of_its_own(lab: Lab) -> None:
    samples, keys = now(lab.samples(case(4), thought_id=3))
    assert [path.thought_id for path in samples] == [3] * 4
    assert len(set(keys)) == 4
    assert len({path.token_ids for path in samples}) > 1
    assert now(lab.samples(case(2), thought_id=3))[0] == samples[:2]
    together, _ = now(lab.paths(case(8)))
    assert samples[0] == together[2]
    assert lab._store.made.count("sample") == 4  # type: ignore[attr-defined]


def test_what_goes_on_stays_behind_its_own_thought_id(lab: Lab) -> None:
    grown = now(lab.grown(case(2), [(70, 71), (72, 73)], 9, 1, [5, 3]))
    assert [path.thought_id for path in grown.segments] == [5, 3]
    opens = [path.token_ids[0] for path in now(lab.paths(case(8)))[0]]
    assert [path.token_ids[0] for path in grown.segments] == [opens[4], opens[2]]
    assert [path.token_ids[1:3] for path in grown.segments] == [(70, 71), (72, 73)]
    first = now(lab.grown(case(2), [(70,), (71,)], 9, 1, [1, 2]))
    assert first.key == now(lab.grown(case(2), [(70,), (71,)], 9, 1)).key


def chain(model: ParaThinker, tokens: int, forced: bool, temperature: float) -> Generation:
    """What is sampled where nothing is shared."""
    alone = Lab(model, Sampling("random", BUDGET, WIDEST, temperature, 1.0), Forgetful(), None)
    try:
        return now(alone.chain(case(1), tokens, forced))
    finally:
        alone.close()


@pytest.mark.parametrize("forced", [False, True])
def test_a_chain_cut_to_a_budget_is_the_chain_with_that_budget(lab: Lab, forced: bool) -> None:
    for tokens in (120, 3, 48, 96, 24):
        found = now(lab.chain(case(1), tokens, forced)).segments[0]
        wanted = chain(lab.model, tokens, forced, 1.0).segments[0]
        assert found == dataclasses.replace(wanted, logprobs=found.logprobs), tokens
        assert found.tokens == tokens if forced else found.tokens <= tokens
    assert lab._store.made == ["chain"]  # type: ignore[attr-defined]


def test_a_forced_chain_writes_wait_where_it_would_have_ended(lab: Lab) -> None:
    forced = now(lab.chain(case(1, 1), 150, forced=True)).segments[0]
    free = now(lab.chain(case(1, 1), 150)).segments[0]
    assert free.finish_reason == "stop"
    assert forced.text.startswith(free.text + "\nWait")
    assert forced.tokens == 150


def test_a_chain_ends_where_the_context_does(lab: Lab) -> None:
    found = now(lab.chain(case(1), 10_000, forced=True)).segments[0]
    assert found.tokens == lab.chain_room(case(1)) < 4096


def test_what_somebody_is_sampling_is_not_sampled_again(lab: Lab) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(lab.paths(case(width)) for width in (1, 2, 4, 8) for _ in range(5)))

    asyncio.run(all_at_once())
    assert lab._store.made == ["paths"]  # type: ignore[attr-defined]


def test_more_is_sampled_only_where_there_is_not_enough(lab: Lab, tiny_random_model: Path) -> None:
    memory = Remembering()
    widths = {}
    for widest in (2, 8, 4):
        sampling = Sampling("random", BUDGET, widest, 1.0, 1.0)
        one = Lab(lab.model, sampling, memory, None)
        widths[widest] = now(one.paths(case(widest)))[0]
        one.close()
    assert memory.made == ["paths", "paths"]
    assert widths[8][:4] == widths[4]


@pytest.mark.parametrize(
    ("method", "width", "requests"),
    [("majority", 2, 2), ("short:m=1", 2, 2), ("parallel", 3, 3), ("sequential", 3, 1)],
)
def test_a_method_is_timed_with_its_own_paths_only(
    tiny_random_model: Path, method: str, width: int, requests: int
) -> None:
    """Were it timed with what it shares with others, it would seem slower than it is."""
    model = shared(tiny_random_model)
    opened: list[int] = []
    prepare: Callable[..., Any] = model._preparer.prepare

    def counting(question: object, params: ThinkingParams, *rest: Any) -> Any:
        opened.append(int(params.paths))
        return prepare(question, params, *rest)

    model._preparer.prepare = counting  # type: ignore[method-assign]
    alone = Lab(model, Sampling("r", BUDGET, width, 1.0, 1.0, False), Forgetful(), None)
    try:
        now(parse_method(method).run_alone(case(width), alone))
    finally:
        alone.close()
        model._preparer.prepare = prepare  # type: ignore[method-assign]
    assert opened == [requests]


def test_answers_are_the_same_where_mathematics_says_so(tiny_random_model: Path) -> None:
    with ScoringPool(1) as scoring:
        sampling = Sampling("random", BUDGET, WIDEST, 1.0, 1.0)
        one = Lab(shared(tiny_random_model), sampling, Scoring(), scoring)
        same = [("7,5,3", "3, 5, 7"), ("1,234", "1234"), (r"\frac12", "0.5")]
        other = [("3,5,7", "357"), ("3,5,7", "3,5"), ("(1,2)", "(2,1)"), ("2", "3")]
        assert [now(one.same(*pair)) for pair in same] == [True] * 3
        assert [now(one.same(*pair)) for pair in other] == [False] * 4
        one.close()
