"""Examples of the products task: paths that slip, practice, endings, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest

from parathinker.data import products
from parathinker.data.products import NINES, SEVENS
from parathinker.data.products_source import ProductsSource
from parathinker.errors import UsageError

SLIPS = (0.0, 0.9)


def test_reading_is_practised_on_last_lines_right_and_wrong() -> None:
    source = ProductsSource(
        3, teacher="sevens", readings=(1, 2, 8), practice=1.0, practice_slips=SLIPS
    )
    rights = []
    for example in (source.example(i, 1) for i in range(50)):
        problem = products.parse_question(example.question)
        assert problem is not None
        assert len(example.paths) == 8
        assert {len(reading) for reading in example.readings} <= {1, 2, 8}
        for path in example.paths:
            *checks, said = path.text.split("\n")
            assert len(checks) == 2
            found = int(products.parse_answer(said) or 0)
            assert SEVENS.trusts(path.text) == ((found - problem.answer) % 63 == 0)
            assert not path.learn
            rights.append(found == problem.answer)
    assert 0.4 < sum(rights) / len(rights) < 0.6


def test_some_examples_are_practice_and_the_others_as_ever() -> None:
    source = ProductsSource(3, teacher="nines", readings=(1, 8), practice=0.3, practice_slips=SLIPS)
    examples = [source.example(i, 1) for i in range(200)]
    worked = [example for example in examples if len(example.paths) == 1]
    assert 0.6 < len(worked) / len(examples) < 0.8
    # One path cannot be read by eight: it is read once.
    assert all(len(example.readings) == 1 and example.paths[0].learn for example in worked)


def test_practice_without_readings_is_refused() -> None:
    with pytest.raises(UsageError, match="practice is for summaries; say how many paths they read"):
        ProductsSource(0, practice=0.1)


def test_practice_without_slips_is_refused() -> None:
    with pytest.raises(UsageError, match="practice_slips should say how often answers slip there"):
        ProductsSource(0, readings=(1,), practice=0.1)


def test_practice_and_endings_are_shares() -> None:
    with pytest.raises(UsageError, match="practice is a share from 0 to 1, got 15"):
        ProductsSource(0, readings=(1,), practice=15)
    with pytest.raises(UsageError, match="endings is a share from 0 to 1, got -1"):
        ProductsSource(0, endings=-1)


@pytest.mark.parametrize(("teacher", "checks"), [("head", 0), ("nines", 1), ("sevens", 2)])
def test_an_ending_is_learnt_from_its_last_total_on(teacher: str, checks: int) -> None:
    source = ProductsSource(
        7, slip_rates=(0.0, 0.3), summary=False, teacher=teacher, endings=1.0, rephrase=0.0
    )
    lines, rights = Counter[int](), set()
    for i in range(100):
        example = source.example(i, 1)
        (path,) = example.paths
        problem = products.parse_question(example.question)
        answer = int(products.parse_answer(path.text) or -1)
        before, said = path.text[: path.given], path.text[path.given :]
        total = before.rsplit("\n", 2 if checks else 1)[-2].split(">")[-1]
        assert example.summary is None
        assert path.learn
        assert answer == int(total[::-1])
        assert said.count("\n") == checks
        assert "Answer" not in before
        lines[before.count(">") - bool(checks)] += 1
        rights.add(problem is not None and answer == problem.answer)
    # Its beginning is any line's, the header's among them, so that places do not say where it is.
    assert set(lines) == {1, 2, 3, 4, 5, 6}
    assert lines[6] > lines[1]
    assert rights == {True, False}


def test_some_examples_are_endings_and_the_others_as_ever() -> None:
    source = ProductsSource(3, summary=False, teacher="nines", endings=0.3)
    examples = [source.example(i, 2) for i in range(200)]
    endings = [example for example in examples if len(example.paths) == 1]
    assert 30 < len(endings) < 90
    assert all(len(example.paths) == 2 for example in examples if example not in endings)


def test_writing_has_no_endings_for_it_drops_digits_on_its_way() -> None:
    with pytest.raises(UsageError, match="endings go by the last total, which writing cuts"):
        ProductsSource(0, digits=(5,), summary=False, teacher="writing", endings=0.1)


def test_half_of_all_endings_stray_from_what_they_worked_out() -> None:
    source = ProductsSource(7, summary=False, teacher="nines", endings=1.0, rephrase=0.0)
    right = Counter(
        bool(products.check(example.question, example.paths[0].text))
        for example in (source.example(i, 1) for i in range(200))
    )
    assert 70 < right[False] < 130


def test_held_out_problems_never_come_up_in_training() -> None:
    held_out = products.held_out_problems(300)
    assert len(held_out) == 300
    problems = [products.problem_of(entry) for entry in held_out]
    assert len({(p.a, p.b) for p in problems}) == 300
    assert all(products.is_held_out(p.a, p.b) and products.is_held_out(p.b, p.a) for p in problems)
    for seed in (1, 1000, 1001):
        source = ProductsSource(seed, digits=(1, 2, 3, 4, 5), slip_rates=(0.1,))
        for index in range(500):
            drawn = products.parse_question(source.example(index, 1).question)
            assert drawn is not None
            assert not products.is_held_out(drawn.a, drawn.b)


def test_examples_are_the_same_on_every_run_and_flawed_paths_are_not_learnt() -> None:
    source = ProductsSource(3, slip_rates=(0.2,))
    example = source.example(7, 6)
    assert example == ProductsSource(3, slip_rates=(0.2,)).example(7, 6)
    assert example != source.example(8, 6)
    problem = products.parse_question(example.question)
    assert problem is not None
    for path in example.paths:
        assert path.thought_id is not None
        assert path.learn == (path.text == products.work_out(problem, path.thought_id))
    assert example.summary == products.work_out(problem).splitlines()[-1]
    assert not all(path.learn for path in example.paths)


def test_a_digit_that_stands_in_no_path_is_not_asked_of_the_summary() -> None:
    source = ProductsSource(4, slip_rates=(0.1,), rephrase=0.0)
    for example in (source.example(index, 1) for index in range(50)):
        assert (example.summary is None) == (not example.paths[0].learn)
    together = [source.example(index, 16) for index in range(20)]
    assert not all(path.learn for example in together for path in example.paths)
    assert all(example.summary for example in together)


def test_summaries_read_as_many_paths_as_asked_where_these_hold_the_answer() -> None:
    source = ProductsSource(7, slip_rates=(0.2,), readings=(1, 1, 3, 8))
    for example in (source.example(index, 16) for index in range(30)):
        sizes = [len(reading) for reading in example.readings]
        assert set(sizes) <= {1, 3, 8}
        for reading in example.readings:
            if len(reading) == 1:
                assert example.paths[reading[0]].text.endswith(str(example.summary))
    assert any(len(source.example(i, 16).readings) < 4 for i in range(30))


@pytest.mark.parametrize("teacher", products.TEACHERS)
def test_paths_can_be_there_to_be_read_alone(teacher: str) -> None:
    source = ProductsSource(6, digits=(4,), learn_paths=False, teacher=teacher)
    example = source.example(0, 3)
    assert example.summary is not None
    assert not any(path.learn for path in example.paths)


def test_a_chain_that_retries_ends_with_the_first_path_that_trusts_itself() -> None:
    source = ProductsSource(9, slip_rates=(0.1,), teacher="nines", retry=True)
    examples = [source.example(i, 4) for i in range(60)]
    assert {len(example.paths) for example in examples} == {1, 2, 3, 4}
    for example in examples:
        trusted = [NINES.trusts(path.text) for path in example.paths]
        assert not any(trusted[:-1])
        assert trusted[-1] or len(trusted) == 4


def test_other_wordings_come_with_either_factor_the_shorter() -> None:
    source = ProductsSource(5, digits=(6,), rephrase=1.0)
    problems = [products.parse_question(source.example(i, 1).question) for i in range(200)]
    lengths = {(len(str(p.a)), len(str(p.b))) for p in problems if p is not None}
    assert {(6, 3), (3, 6), (6, 6)} <= lengths


def test_routes_are_those_of_thought_ids_that_the_model_has() -> None:
    source = ProductsSource(8, max_paths=4)
    seen = {path.thought_id for i in range(20) for path in source.example(i, 2).paths}
    assert seen == {1, 2, 3, 4}
    with pytest.raises(UsageError, match="5 paths, but routes for 4 only"):
        source.example(0, 5)


def test_digits_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 6"):
        ProductsSource(0, digits=(9,))
    with pytest.raises(UsageError, match="between 1 and 5"):
        ProductsSource(0, digits=(6,), teacher="writing")


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(
        UsageError, match="no teacher 'abacus'; there are: head, nines, sevens, writing"
    ):
        ProductsSource(0, teacher="abacus")
