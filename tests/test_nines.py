"""The embedded model whose paths check themselves does what its card says."""

from __future__ import annotations

import pytest

from parathinker import ParaThinker, ThinkingParams
from parathinker.data import products

PROBLEMS = 20


@pytest.mark.timeout(300)
def test_eight_paths_that_check_themselves_and_a_summary_are_right_where_one_or_none_is() -> None:
    # Behind those that its card's figures are from.
    questions = [e["question"] for e in products.held_out_problems(500 + PROBLEMS)[500:]]
    with ParaThinker.from_pretrained("nines") as model:
        answers = model.think(questions, ThinkingParams(paths=8, seed=1))
    both = list(zip(questions, answers, strict=True))
    right = [products.check(asked, answer.summary.text) for asked, answer in both]
    paths = [[products.check(asked, p.text) for p in answer.paths] for asked, answer in both]
    one = sum(bool(good) for on in paths for good in on) / 8
    assert sum(map(bool, right)) >= 16
    assert 7 <= one <= 15
    assert any(said and not any(on) for said, on in zip(right, paths, strict=True))
    # What passes the check is mostly right, for it misses one error in nine; the rest is wrong.
    passing = {True: list[bool | None](), False: list[bool | None]()}
    for answer, on in zip(answers, paths, strict=True):
        for path, good in zip(answer.paths, on, strict=True):
            passing[products.NINES.trusts(path.text)].append(good)
    assert sum(map(bool, passing[True])) > 0.8 * len(passing[True])
    assert sum(map(bool, passing[False])) < 0.15 * len(passing[False])
