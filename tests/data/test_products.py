"""The products task: a right teacher, honest slips, and a held-out split that holds."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.data import products
from parathinker.data.multiplication import Teacher
from parathinker.data.products import HEAD, NINES, Problem, ProductsSource
from parathinker.errors import UsageError

ROUTE = st.integers(1, HEAD.routes)


@pytest.mark.parametrize("teacher", products.TEACHERS.values())
@given(data=st.data(), thought_id=ROUTE)
def test_teachers_are_right_on_every_route_and_always_write_the_same_layout(
    teacher: Teacher, data: st.DataObject, thought_id: int
) -> None:
    a, b = (data.draw(st.integers(0, 10**teacher.digits - 1)) for _ in range(2))
    trace = products.work_out(Problem("", a, b), thought_id, teacher=teacher)
    assert int(products.parse_answer(trace) or -1) == a * b
    assert len(trace) == len(products.work_out(Problem("", 1, 1), teacher=teacher))
    assert trace.endswith(teacher.answer_line(a * b))


@given(ROUTE)
def test_a_route_takes_every_digit_once(thought_id: int) -> None:
    assert sorted(HEAD.route(thought_id)[1]) == list(range(HEAD.digits))


def test_every_thought_id_has_a_route_of_its_own() -> None:
    problem = Problem("", 482137, 768914)
    traces = {products.work_out(problem, i + 1) for i in range(HEAD.routes)}
    assert len(traces) == HEAD.routes


def test_slips_happen_about_as_often_as_asked_and_are_carried_forward() -> None:
    rng = random.Random(0)
    problem = Problem("", 482137, 768914)
    truth = products.work_out(problem)
    slipped = [products.work_out(problem, 1, 0.05, rng) for _ in range(2000)]
    assert slipped.count(truth) / 2000 == pytest.approx(0.95**HEAD.digits, abs=0.03)
    one = next(text for text in slipped if text != truth)
    assert products.parse_answer(one) != products.parse_answer(truth)


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1), ROUTE, st.integers(0))
def test_casting_out_nines_finds_all_wrong_answers_but_those_of_the_same_remainder(
    a: int, b: int, thought_id: int, seed: int
) -> None:
    text = products.work_out(Problem("", a, b), thought_id, 0.2, random.Random(seed), NINES)
    *_, check, answer = text.splitlines()
    found = int(products.parse_answer(answer) or -1)
    assert check[-1] == ("=" if found % 9 == a * b % 9 else "!")
    assert NINES.finished(a, b, text, thought_id) == (text, len(text) - len(f"{check}\n{answer}"))


def test_reading_is_practised_on_last_lines_right_and_wrong() -> None:
    source = ProductsSource(3, teacher="nines", readings=(1, 2, 8), practice=1.0)
    judged, agreed, marks = 0, 0, Counter[str]()
    for example in (source.example(i, 1) for i in range(100)):
        problem = products.parse_question(example.question)
        assert problem is not None
        wrong = Counter[int]()
        for path in example.paths:
            check, said = path.text.split("\n")
            found = int(products.parse_answer(said) or 0)
            judged += check[-1] == ("=" if found % 9 == problem.answer % 9 else "!")
            marks[f"{check[-1]} {'right' if found == problem.answer else 'wrong'}"] += 1
            wrong[found] += found != problem.answer
            assert not path.learn
        agreed += sum(count for count in wrong.values() if count > 1)
        assert len(example.paths) == 16
        assert {len(reading) for reading in example.readings} <= {1, 2, 8}
    assert judged / marks.total() == pytest.approx(1 - products.PRACTICE_MISJUDGED, abs=0.02)
    # As models' own: some wrong ones pass, some right ones do not, and some wrong ones agree.
    assert marks.keys() == {"= right", "= wrong", "! wrong", "! right"}
    assert 0.1 < agreed / (marks["= wrong"] + marks["! wrong"]) < 0.5


def test_practice_may_slip_at_rates_of_its_own() -> None:
    source = ProductsSource(
        3, teacher="nines", readings=(1, 8), practice=1.0, practice_slips=(0.0, 0.9)
    )
    rights = []
    for example in (source.example(i, 1) for i in range(50)):
        problem = products.parse_question(example.question)
        assert problem is not None
        assert len(example.paths) == 8
        for path in example.paths:
            check, said = path.text.split("\n")
            found = int(products.parse_answer(said) or 0)
            assert check[-1] == ("=" if found % 9 == problem.answer % 9 else "!")
            rights.append(found == problem.answer)
    assert 0.4 < sum(rights) / len(rights) < 0.6


@given(answer=st.integers(0, 10**12 - 1), seed=st.integers(0, 1000))
def test_mistaken_answers_are_wrong_and_fit(answer: int, seed: int) -> None:
    wrong = NINES.mistaken(answer, random.Random(seed))
    assert wrong != answer
    assert 0 <= wrong < 10**12


def test_some_examples_are_practice_and_the_others_as_ever() -> None:
    source = ProductsSource(3, teacher="nines", readings=(1, 8), practice=0.3)
    examples = [source.example(i, 1) for i in range(200)]
    worked = [example for example in examples if len(example.paths) == 1]
    assert 0.6 < len(worked) / len(examples) < 0.8
    # One path cannot be read by eight: it is read once.
    assert all(len(example.readings) == 1 and example.paths[0].learn for example in worked)


def test_practice_without_readings_is_refused() -> None:
    with pytest.raises(UsageError, match="practice is for summaries; say how many paths they read"):
        ProductsSource(0, practice=0.1)


def test_practice_and_endings_are_shares() -> None:
    with pytest.raises(UsageError, match="practice is a share from 0 to 1, got 15"):
        ProductsSource(0, readings=(1,), practice=15)
    with pytest.raises(UsageError, match="endings is a share from 0 to 1, got -1"):
        ProductsSource(0, endings=-1)


@pytest.mark.parametrize("teacher", ["head", "nines"])
def test_an_ending_is_learnt_from_its_last_total_on(teacher: str) -> None:
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
        total = before.rsplit("\n", 1 if teacher == "head" else 2)[-2].split(">")[-1]
        assert example.summary is None
        assert path.learn
        assert answer == int(total[::-1])
        assert said.count("\n") == (teacher == "nines")
        assert "Answer" not in before
        lines[before.count(">") - (teacher == "nines")] += 1
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


def test_the_check_goes_by_what_a_path_came_to_whatever_it_said_of_that() -> None:
    text = products.work_out(Problem("", 37, 58), teacher=NINES)
    assert text.endswith("\n9:711111*844444=4>612444444444=\nAnswer:         2146")
    worked = text[: text.index("9:7")]
    assert NINES.finished(37, 58, f"{worked}9:what?\nAnswer: 7", 1) == (text, len(worked))
    assert NINES.finished(37, 58, worked[: len(worked) // 2], 1) is None
    assert HEAD.finished(37, 58, worked, 1) is None


@pytest.mark.parametrize(
    ("question", "text", "verdict"),
    [
        ("What is 12 * 3?", "Answer: 36", True),
        ("Solve the following multiplication: 12 * 3. Give only", "Answer:   36", True),
        ("12x3", "Answer: 0036", True),
        ("What is 12 * 3?", "Answer: 37", False),
        ("What is 12 * 3?", "36", False),
        ("What is 12 + 3?", "Answer: 15", None),
        ("What is 1.5 * 3?", "Answer: 4", None),
        ("What is 2 * 3 * 4?", "Answer: 24", None),
    ],
)
def test_answers_are_checked(question: str, text: str, verdict: bool | None) -> None:
    assert products.check(question, text) is verdict


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


def test_reasoning_gym_scores_its_own_problems() -> None:
    for entry in products.held_out_problems(20):
        trace = products.work_out(products.problem_of(entry))
        assert products.score(products.parse_answer(trace), entry) == 1.0
        assert products.score("12", entry) < 1.0
        assert products.score(None, entry) < 1.0


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
    with pytest.raises(UsageError, match="no teacher 'abacus'; there are: head, nines, writing"):
        ProductsSource(0, teacher="abacus")
