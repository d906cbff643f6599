"""The table compares methods on the same paths, and its controls tell whether paths are read."""

from __future__ import annotations

import dataclasses

import pytest

from parathinker import ParaThinker, ThinkingParams, UsageError
from parathinker.data import products
from parathinker.evaluation.table import _Run, measure


@pytest.fixture(scope="module")
def tiny() -> ParaThinker:
    return ParaThinker.from_pretrained("tiny")


def test_the_first_of_many_paths_are_what_fewer_would_have_been(tiny_random_model) -> None:
    model = ParaThinker.from_pretrained(tiny_random_model)
    params = ThinkingParams(
        paths=5, seed=3, temperature=1.0, max_path_tokens=12, max_summary_tokens=9,
        termination="last-finish",
    )  # fmt: skip
    many = model.think("2 + 2?", params)
    few = model.think("2 + 2?", dataclasses.replace(params, paths=2))
    assert [p.token_ids for p in few.paths] == [p.token_ids for p in many.paths[:2]]
    given = [[path.token_ids for path in many.paths[:2]]]
    summed_up = model.summarize(["2 + 2?"], given, params)[0]
    assert summed_up.summary.token_ids == few.summary.token_ids
    assert summed_up.summary.logprobs == pytest.approx(few.summary.logprobs, abs=1e-4)


def test_questions_of_one_seed_do_not_share_their_randomness(tiny_random_model) -> None:
    model = ParaThinker.from_pretrained(tiny_random_model)
    params = ThinkingParams(paths=1, seed=1, temperature=50.0, max_path_tokens=30)
    first, second = (a.paths[0].token_ids for a in model.think(["1?", "2?"], params))
    same = sum(a == b for a, b in zip(first, second, strict=False))
    assert same < len(first) / 2  # at this temperature equal uniforms give equal tokens


def test_ties_of_the_vote_count_as_what_they_are_worth(tiny: ParaThinker) -> None:
    entries = products.held_out_problems(2)
    run = _Run(tiny, entries, lambda *_: None)
    answers = run.think("two paths", ThinkingParams(paths=2, seed=0))

    def saying(answer, *texts):
        paths = [
            dataclasses.replace(path, text=text)
            for path, text in zip(answer.paths, texts, strict=True)
        ]
        return dataclasses.replace(answer, paths=paths)

    right = [f"Answer: {entry['answer']}" for entry in entries]
    voted = [saying(answers[0], right[0], "Answer: 1"), saying(answers[1], "no", right[1])]
    assert run.majority_scores(voted) == [0.5, 1.0]
    assert run.any_scores(voted) == [1.0, 1.0]
    assert run.path_scores(voted) == [0.5, 0.5]
    nothing = [saying(a, "no", "none") for a in answers]
    assert run.majority_scores(nothing) == [0.0, 0.0]


def test_the_embedded_model_reads_its_paths(tiny: ParaThinker) -> None:
    table = measure(tiny, questions=6, path_counts=(4, 1))
    by_name = {(score.method, score.paths): score.accuracy for score in table.scores}
    assert by_name["single path, greedy", 1] >= 30
    assert by_name["parallel thinking", 4] >= 30
    assert by_name["summary, paths withheld", 4] <= 20
    assert by_name["summary, paths of another question", 4] <= 20
    assert set(table.gains) == {1, 4}


def test_what_cannot_be_measured_is_said(tiny: ParaThinker, tiny_random_model) -> None:
    with pytest.raises(UsageError, match="task 'products'"):
        measure(ParaThinker.from_pretrained(tiny_random_model), questions=2)
    with pytest.raises(UsageError, match="from 1 to 16"):
        measure(tiny, questions=2, path_counts=(17,))
    with pytest.raises(UsageError, match="only 2 held-out problems"):
        measure(tiny, questions=5, digits=1)
