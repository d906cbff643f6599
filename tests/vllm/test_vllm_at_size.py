"""Real weights, several processes, compiled graphs: the same answers."""

from __future__ import annotations

import pytest
from vllm_models import TOLERANCE, difference, ends, tokens

from parathinker import ThinkingParams
from parathinker.data.tasks import read_example_problems
from parathinker.modeling.folders import resolve_model
from smollm2 import smollm2_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TERMINATIONS = ("first-finish", "half-finish", "last-finish")


def test_the_embedded_model_answers_the_same(start, native, measured):
    folder, worst = resolve_model("tiny"), 0.0
    model, own = start(folder), native(folder)
    most = own.max_paths
    for number, problem in enumerate(read_example_problems(folder)[:6]):
        params = ThinkingParams(
            paths=(1, most, min(3, most))[number % 3],
            termination=TERMINATIONS[number % 3],
            seed=number,
            max_path_tokens=300,
            max_summary_tokens=32,
        )
        answers = [m.think(problem.question, params) for m in (model, own)]
        assert tokens(answers[0]) == tokens(answers[1])
        assert ends(answers[0]) == ends(answers[1])
        worst = max(worst, difference(folder, answers[0]))
    measured("vLLM: largest difference, embedded model", worst)
    assert worst <= TOLERANCE


def test_real_weights_answer_the_same(start, native, measured):
    folder, worst = smollm2_folder(16, 0.2), 0.0
    model, own = start(folder), native(folder)
    for number, paths in enumerate((1, 3, 8, 16)):
        params = ThinkingParams(
            paths=paths,
            termination=TERMINATIONS[number % 3],
            temperature=0.0,
            max_path_tokens=40,
            max_summary_tokens=8,
        )
        answers = [m.think("Why is the sky blue?", params) for m in (model, own)]
        assert tokens(answers[0]) == tokens(answers[1])
        worst = max(worst, difference(folder, answers[0]))
        if paths == 3:
            for wrong in ({"thoughts": False}, {"flat_positions": True}, {"drop_path": 1}):
                assert difference(folder, answers[0], **wrong) > 10 * TOLERANCE
    measured("vLLM: largest difference, SmolLM2", worst)
    assert worst <= TOLERANCE


@pytest.mark.parametrize(
    "options",
    [{"tensor_parallel_size": 2}, {"enforce_eager": False}, {"data_parallel_size": 2}],
    ids=["tensor parallel", "compiled", "data parallel"],
)
def test_however_it_is_run_the_answers_are_the_same(
    start, native, folder, measured, monkeypatch, options
):
    # By itself vLLM gives each worker a NUMA node of its own, and a small machine has but one.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    model, worst = start(folder, **options), 0.0
    for number in range(4):
        params = ThinkingParams(
            paths=(3, 8)[number % 2],
            termination=TERMINATIONS[number % 3],
            temperature=1.0,
            seed=number,
            max_path_tokens=40,
            max_summary_tokens=10,
        )
        answers = [m.think(f"Why? {number}", params) for m in (model, native(folder))]
        assert tokens(answers[0]) == tokens(answers[1])
        worst = max(worst, difference(folder, answers[0]))
    measured(f"vLLM: largest difference, {next(iter(options))}", worst)
    assert worst <= TOLERANCE
