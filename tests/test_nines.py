"""The embedded model whose paths check themselves does what its card says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parathinker import ParaThinker, ThinkingParams
from parathinker.data import products

QUESTIONS = [e["question"] for e in products.held_out_problems(560)[500:]]
"""Behind those that its card's figures are from."""


@pytest.fixture(scope="module")
def model() -> Iterator[ParaThinker]:
    with ParaThinker.from_pretrained("nines") as opened:
        yield opened


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("count", "least"), [(2, 44), (4, 51)])
def test_a_summary_of_few_paths_is_right_more_often_than_a_path(
    model: ParaThinker, count: int, least: int
) -> None:
    answers = model.think(QUESTIONS, ThinkingParams(paths=count, seed=1))
    both = list(zip(QUESTIONS, answers, strict=True))
    paths = [
        [products.check(asked, p.text) is True for p in answer.paths] for asked, answer in both
    ]
    assert 30 <= sum(map(sum, paths)) / count <= 44
    assert (
        sum(products.check(asked, answer.summary.text) is True for asked, answer in both) >= least
    )
    # Wrong ones hardly ever pass both checks, and right ones hardly ever fail one.
    judged = [
        products.SEVENS.trusts(path.text) == good
        for answer, on in zip(answers, paths, strict=True)
        for path, good in zip(answer.paths, on, strict=True)
    ]
    assert sum(judged) > 0.97 * len(judged)


@pytest.mark.timeout(300)
def test_it_is_right_on_some_problems_where_no_path_is(model: ParaThinker) -> None:
    answers = model.think(QUESTIONS, ThinkingParams(paths=4, temperature=0.9, seed=1))
    none = [
        products.check(asked, answer.summary.text)
        for asked, answer in zip(QUESTIONS, answers, strict=True)
        if not any(products.check(asked, p.text) for p in answer.paths)
    ]
    assert sum(map(bool, none)) >= 2, f"{none.count(True)} of {len(none)}"
