"""Scoring: which answer a text gives, whether it is right, and that no answer can do harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.benchmarks import BENCHMARKS, load_benchmark
from parathinker.data.schema import Question, question_id
from parathinker.data.sources.procedural import draw
from parathinker.errors import UsageError
from parathinker.scoring import (
    ScoringPool,
    extract_answer,
    score,
    score_all,
    scorer_version,
)
from parathinker.scoring.extract import as_number, plain

ENDLESS = r"\boxed{9^{9^{9^{9^9}}}}"
TASKS = ("gsm_symbolic", "chain_sum", "leg_counting", "simple_equations", "products")


def asked(answer: str | None) -> Question:
    return Question(question_id("How much?"), "How much?", answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{ x : x > 0 \right.} done", r"\left\{ x : x > 0 \right."),
        (r"\fbox{7}", "7"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"first \boxed{3}, then \boxed{4 and here it was cut", "3"),
        (r"\boxed{} and \boxed{ }, the answer is 8", "8"),
        ("it is 3 <answer> 12 </answer> or 4", "12"),
        ("The answer is 5. That took 3 steps.", "5"),
        ("The final answer is: $x^2$.", "x^2"),
        ("**Answer:** **17**", "17"),
        ("Answer:  2146", "2146"),
        ("answer is 1, no, the answer is 2", "2"),
        ("The answer is:\n\n9 apples", "9 apples"),
        ("She has 3 left.\n#### 1,234", "1,234"),
        ("from 10 to 12", "12"),
        ("that makes 1,234,567.", "1234567"),
        ("the roots are 3,5,7", "7"),
        ("the roots are 3, 5, 7.", "7"),
        ("so x = -3", "-3"),
        ("we get 12-7", "7"),
        ("3/4 of it", "3/4"),
        ("no idea", None),
        ("", None),
    ],
)
def test_the_answer_is_what_is_boxed_else_what_is_called_so_else_the_last_number(
    text: str, answer: str | None
) -> None:
    assert extract_answer(text) == answer


balanced = st.recursive(
    st.text(alphabet="x1+ \\frac^", max_size=4).filter(lambda s: not s.endswith("\\")),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "}{".join(parts) + "}"),
    max_leaves=8,
)


@given(balanced, st.text(alphabet="ab{}1 ", max_size=12).filter(lambda s: "}" not in s))
def test_whatever_balanced_braces_hold_is_found_whole(content: str, before: str) -> None:
    if content.strip():
        assert extract_answer(rf"{before}\boxed{{{content}}} end") == content.strip()


@given(st.text())
def test_any_text_at_all_has_an_answer_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer == answer.strip() != ""


def test_texts_made_to_be_slow_are_read_in_no_time() -> None:
    began = time.monotonic()
    for text in (
        "answer is" + " " * 100_000,
        "<answer>" * 20_000,
        r"\boxed{" * 20_000,
        "{" * 100_000 + "}" * 100_000,
        "1," * 50_000,
        "111," * 50_000 + "1",
        "111 " * 50_000 + "1111",
        "$" * 20_000,
    ):
        extract_answer(text)
        plain(text)
    assert time.monotonic() - began < 5


def test_numbers_are_equal_however_they_are_written() -> None:
    same = ("1234", "1,234", "1{,}234", "+1234.0", r"\$1\,234", "2468/2", r"1,\!234", r"\(1 234\)")
    assert {as_number(text) for text in same} == {1234}
    assert as_number(r"-12{,}345{,}678.5") == -12_345_678.5
    assert as_number("12 apples") is None
    assert as_number("1/0") is None
    as_number("9" * 10_000)  # more digits than Python reads


@pytest.mark.parametrize(
    "listed",
    ["3, 5, 7", "3,5,7", "3 5 7", r"3\,5\,7", "3{,}5{,}7", "$3$, $5$, $7$", "0,357", "3,57"],
)
def test_a_list_is_no_number(listed: str) -> None:
    assert as_number(listed) is None
    assert plain(listed) != plain("357")
    assert score(asked(listed), r"\boxed{357}") == 0.0
    assert score(asked("357"), rf"\boxed{{{listed}}}") == 0.0
    assert score(asked(listed), rf"\boxed{{{listed}}}") == 1.0


def test_numbers_in_brackets_keep_their_commas() -> None:
    assert plain("(100, 200)") == plain("(100,200)") == "(100,200)"
    assert plain(r"x = 1,234 \text{ cm}") == plain("x=1234cm")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1/2", r"\boxed{\frac12}"),
        ("1/2", "The answer is 0.5."),
        ("1234", r"That is \boxed{1,234}"),
        ("1,234", "1234"),
        (r"\{1,2\}", r"\boxed{\{2,1\}}"),
        ("3,5,7", r"\boxed{7, 5, 3}"),
        ("(1,2)", r"\boxed{(1, 2)}"),
        (r"\text{Evelyn}", r"\boxed{Evelyn}"),
        ("x^2+1", "The answer is $1+x^2$."),
        ("x^2+1", "x^2 + 1"),
        (r"\sqrt{2}", r"\boxed{2^{1/2}}"),
        ("5", "so x = 5"),
        ("5", "The answer is 5 apples."),
        ("6-5i", r"\boxed{-5i+6}"),
    ],
)
def test_answers_that_mean_the_same_are_right(reference: str, answer: str) -> None:
    assert score(asked(reference), answer) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1/2", r"\boxed{0.51}"),
        ("(1,2)", r"\boxed{(2,1)}"),
        ("3,5,7", r"\boxed{3,5}"),
        ("[0,1)", r"\boxed{(0,1]}"),
        ("x^2+1", r"\boxed{x^2-1}"),
        ("5", "I do not know"),
        ("5", ""),
        ("12", "I had 12, but the answer is 13."),
    ],
)
def test_answers_that_mean_something_else_are_wrong(reference: str, answer: str) -> None:
    assert score(asked(reference), answer) == 0.0


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_reasoning_gym_is_scored_by_its_own_scorer_however_the_answer_is_put(
    task: str,
) -> None:
    pytest.importorskip("reasoning_gym")
    answers, wrong = [], []
    for question, _ in draw(f"reasoning-gym:{task}", 5, 0, {}):
        if question is None:
            continue
        truth = question.answer or ""
        for text in (
            truth,
            rf"First 12, then 7, so \boxed{{{truth}}}.",
            f"There are 3 steps.\n\nThe answer is {truth}.",
            f"**Answer:** {truth}",
            f"7 and 12 make {truth}",
        ):
            answers.append((question, text))
        wrong.append((question, f"The answer is {int(float(truth)) + 1}."))
    assert len(answers) == 25
    assert [score(question, text) for question, text in answers] == [1.0] * 25
    assert all(score(question, text) < 1 for question, text in wrong)


def test_an_answer_that_would_take_forever_to_check_scores_nothing_and_the_next_one_its_due() -> (
    None
):
    began = time.monotonic()
    with ScoringPool(workers=1, timeout_s=0.5) as pool:
        first = pool.check(asked("17"), ENDLESS)
        second = pool.check(asked("17"), r"\boxed{17}")
    assert (first.score, first.note) == (0.0, "timed out")
    assert (second.score, second.note) == (1.0, "")
    assert time.monotonic() - began < 60


def test_a_scorer_that_waits_without_computing_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is processor time, of which a scorer that sleeps needs none."""
    package = tmp_path / "reasoning_gym"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import time\n"
        "def get_score_answer_fn(task):\n"
        "    return lambda answer, entry: time.sleep(600 if answer == 'asleep' else 0) or 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # a worker's modules come from where these do
    question = Question("q", "?", "awake", "", {"task": "any", "entry": {"answer": "awake"}})
    began = time.monotonic()
    with ScoringPool(workers=1, timeout_s=0.1) as pool:
        slept, woken = (pool.check(question, text) for text in ("asleep", "awake"))
    assert (slept.score, slept.note) == (0.0, "timed out")
    assert (woken.score, woken.note) == (1.0, "")
    assert time.monotonic() - began < 100


def test_scores_come_in_the_order_of_the_answers_and_none_where_nothing_is_known() -> None:
    answers = [(asked(None if i % 5 == 0 else str(i)), f"It is {i - i % 2}.") for i in range(40)]
    expected = [None if i % 5 == 0 else float(i % 2 == 0) for i in range(40)]
    assert score_all(answers, workers=2) == expected


def test_threads_may_score_at_once() -> None:
    found: list[float] = []

    def work(number: int) -> None:
        found.append(score(asked(rf"\frac{{{number}}}{{7}}"), rf"\boxed{{{number}/7}}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1.0] * 6


def test_a_question_without_a_reference_cannot_be_scored() -> None:
    with pytest.raises(UsageError, match="no reference answer"):
        score(asked(None), "5")


def test_a_task_that_reasoning_gym_does_not_have_is_an_error() -> None:
    question = Question("q", "?", "1", "", {"task": "no_such_task", "entry": {"answer": "1"}})
    with pytest.raises(UsageError, match="no_such_task"):
        score(question, "1")


def test_scores_of_other_rules_or_libraries_can_be_told_apart() -> None:
    assert "rules" in scorer_version()
    assert "math-verify" in scorer_version()


# No main guard, and the main module would print again if a worker ran it.
SCRIPT = """
import sys
print("started", flush=True)
import psutil
from parathinker.data.schema import Question
from parathinker.scoring import score
print(score(Question("q", "?", "1/2"), "0.5"), flush=True)
print(*[child.pid for child in psutil.Process().children()], flush=True)
if len(sys.argv) > 1:
    score(Question("q", "?", "17"), sys.argv[1], timeout_s=2)
"""


def test_a_plain_script_may_score_and_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    started, right, worker = done.stdout.splitlines()
    assert (started, right) == ("started", "1.0")
    assert not psutil.pid_exists(int(worker))


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="needs POSIX timers")
def test_a_worker_that_computes_ends_by_itself_when_its_program_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    program = subprocess.Popen([sys.executable, script, ENDLESS], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    lines = [program.stdout.readline() for _ in range(3)]
    worker = psutil.Process(int(lines[2]))
    time.sleep(0.5)  # it has begun on what never ends
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("name", "questions"), [("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500)]
)
def test_benchmarks_come_whole_with_the_package(name: str, questions: int) -> None:
    loaded = load_benchmark(name)
    assert len(loaded) == questions
    assert all(q.answer and q.question.strip() and q.source == name for q in loaded)
    assert len({q.metadata["id"] for q in loaded}) == questions
    assert all(q.id == question_id(q.question) for q in loaded)


def test_an_unknown_benchmark_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="aime24, aime25, amc23, math500"):
        load_benchmark("aime1983")


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_answer_of_a_benchmark_is_right_and_another_questions_is_not(name: str) -> None:
    questions = load_benchmark(name)
    right = [(q, rf"So the answer is \boxed{{{q.answer}}}.") for q in questions]
    others = [*questions[1:], questions[0]]
    swapped = [
        (q, rf"So the answer is \boxed{{{other.answer}}}.")
        for q, other in zip(questions, others, strict=True)
        if _value(q) != _value(other)
    ]
    assert score_all(right) == [1.0] * len(questions)
    assert score_all(swapped) == [0.0] * len(swapped)


def _value(question: Question) -> str:
    """``5`` and ``x=5`` are one answer."""
    return str(question.answer).rpartition("=")[2]
