"""The engine equals plain transformers with an explicit mask in every log-probability."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from parathinker import Answer, ParaThinker, ThinkingParams, UsageError
from parathinker.modeling.folders import resolve_model
from parathinker.params import TERMINATIONS
from parathinker.prompt import PromptCodec
from reference import largest_difference, reference_logits, reference_logprobs, reference_model

TOLERANCE = 1e-4
ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral")
QUESTIONS = ("What is 48213 * 7689?", "Why?", "Ünïcode → 日本語 🙂 and a second line\nhere.")

load = cache(ParaThinker.from_pretrained)
reference = cache(reference_model)


def controls(folder: Path, answer: Answer) -> dict[str, float]:
    """How far the answer is from references that get one thing wrong."""
    broken: dict[str, list[dict[str, Any]]] = {
        "no thought embedding": [{"thoughts": False}],
        "flattened positions": [{"flat_positions": True}],
        "a dropped path": [{"drop_path": i + 1} for i in range(len(answer.paths))],
    }
    return {
        name: max(
            largest_difference(answer, reference_logprobs(reference(folder), answer, **one))
            for one in ways
        )
        for name, ways in broken.items()
    }


@pytest.mark.parametrize("termination", TERMINATIONS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_logprobs_equal_the_reference(random_model, measured, model_type, tied, termination):
    seed = ARCHITECTURES.index(model_type)
    folder = random_model(model_type, tied=tied, max_paths=16, seed=seed)
    worst, ends, ragged, checked = 0.0, set(), 0, []
    for number, paths in enumerate((1, 3, 8, 16)):
        for temperature in (1.0, 0.0) if paths == 8 else (1.0,):
            answer = load(folder).think(
                QUESTIONS[number % len(QUESTIONS)],
                ThinkingParams(
                    paths=paths,
                    termination=termination,
                    temperature=temperature,
                    seed=number,
                    max_path_tokens=24,
                    max_summary_tokens=16,
                    summary_prefix="So:" if number % 2 else None,
                ),
            )
            expected = reference_logprobs(reference(folder), answer)
            worst = max(worst, largest_difference(answer, expected))
            ends |= {path.finish_reason for path in answer.paths}
            ragged += len({len(path.token_ids) for path in answer.paths}) > 1
            checked.append(answer)
    measured(f"largest difference, {model_type}", worst)
    assert worst <= TOLERANCE
    # Without these the comparison would be of less than it claims.
    assert "stop" in ends
    if termination == "first-finish":
        assert "cut" in ends
    else:
        assert "cut" in ends or termination == "last-finish"
        assert ragged >= 2, "paths should have closed at different times"
    if termination == "last-finish":
        assert "length" in ends
        wrong = [controls(folder, answer) for answer in checked if len(answer.paths) in (3, 8)]
        for name in wrong[0]:
            distance = min(one[name] for one in wrong)
            measured(f"smallest difference with {name}", distance, least=True)
            assert distance > 0.1, f"{name} went unnoticed: {wrong}"


def test_paths_open_with_the_thought_ids_that_are_asked_for(random_model) -> None:
    folder = random_model("llama", max_paths=16)
    params = ThinkingParams(
        paths=16, termination="last-finish", seed=3, max_path_tokens=20, max_summary_tokens=8
    )
    ids = (9, 2, 16)
    chosen = dataclasses.replace(params, paths=3, thought_ids=ids)
    everyone, some = (load(folder).think(QUESTIONS[0], one) for one in (params, chosen))
    assert [path.thought_id for path in some.paths] == list(ids)
    # A path is the same whoever thinks beside it.
    alike = [everyone.paths[i - 1].token_ids for i in ids]
    assert [path.token_ids for path in some.paths] == alike
    expected = reference_logprobs(reference(folder), some)
    assert largest_difference(some, expected) <= TOLERANCE
    with pytest.raises(UsageError, match="thought_ids should be at most 16 for this model; got 17"):
        load(folder).think("Why?", dataclasses.replace(chosen, thought_ids=(1, 2, 17)))


@pytest.mark.parametrize("termination", TERMINATIONS)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_memory_that_was_never_written_does_not_leak_into_shorter_paths(
    random_model, model_type, termination
):
    folder = random_model(model_type, tied=True, max_paths=16, seed=ARCHITECTURES.index(model_type))
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    try:
        assert torch.empty(3).isnan().all()
        answer = load(folder).think(
            QUESTIONS[0],
            ThinkingParams(
                paths=8,
                termination=termination,
                temperature=1.0,
                seed=2,
                max_path_tokens=80,  # past the cache's first capacity
                max_summary_tokens=70,
            ),
        )
    finally:
        torch.use_deterministic_algorithms(False)
    expected = reference_logprobs(reference(folder), answer)
    assert largest_difference(answer, expected) <= TOLERANCE


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_greedy_tokens_are_the_references_likeliest_allowed_ones(random_model, model_type):
    folder = random_model(
        model_type, tied=False, max_paths=16, seed=ARCHITECTURES.index(model_type)
    )
    control = PromptCodec.from_folder(folder).control
    answer = load(folder).think(
        "Which?",
        ThinkingParams(
            paths=3,
            termination="last-finish",
            temperature=0,
            max_path_tokens=20,
            max_summary_tokens=20,
        ),
    )
    closings = [*(control.closes[path.thought_id - 1] for path in answer.paths)]
    segments = [*answer.paths, answer.summary]
    logits = reference_logits(reference(folder), answer)
    for segment, closing, rows in zip(
        segments, [*closings, control.summary_close], logits, strict=True
    ):
        rows[:, sorted(control.ids - {closing})] = -torch.inf
        for k, (token, logprob) in enumerate(zip(segment.token_ids, segment.logprobs, strict=True)):
            if logprob is not None:
                assert rows[k - 1, token] >= rows[k - 1].max() - TOLERANCE


def test_long_paths_stay_exact_while_the_cache_grows(random_model, measured):
    folder = random_model("qwen3", max_paths=16, closing=1.0, seed=5)
    answer = load(folder).think(
        QUESTIONS[0] * 20,
        ThinkingParams(
            paths=4,
            termination="last-finish",
            temperature=1.0,
            seed=3,
            max_path_tokens=300,
            max_summary_tokens=140,
        ),
    )
    assert max(len(path.token_ids) for path in answer.paths) > 128
    worst = largest_difference(answer, reference_logprobs(reference(folder), answer))
    measured("largest difference, paths of 300 tokens", worst)
    assert worst <= TOLERANCE


def test_a_prompt_of_one_token_is_exact(random_model):
    folder = random_model("llama", max_paths=16)
    answer = load(folder).think("x", ThinkingParams(paths=3, temperature=1.0, seed=0))
    assert len(answer.prompt_token_ids) == 1
    assert largest_difference(answer, reference_logprobs(reference(folder), answer)) <= TOLERANCE


def test_every_request_of_a_batch_is_exact(random_model):
    folder = random_model("qwen2", tied=True, max_paths=16, seed=1)
    answers = load(folder).think(
        [*QUESTIONS, "x"],
        ThinkingParams(
            paths=5,
            termination="half-finish",
            temperature=1.0,
            seed=4,
            max_path_tokens=30,
            max_summary_tokens=20,
        ),
    )
    for answer in answers:
        expected = reference_logprobs(reference(folder), answer)
        assert largest_difference(answer, expected) <= TOLERANCE


def test_a_model_without_thought_embeddings_counts_them_as_zero(random_model):
    params = ThinkingParams(paths=3, temperature=1.0, seed=1, max_path_tokens=20)
    plain = random_model("qwen2", thought_std=None)
    answer = load(plain).think(QUESTIONS[0], params)
    assert largest_difference(answer, reference_logprobs(reference(plain), answer)) <= TOLERANCE
    zero = load(random_model("qwen2", thought_std=0.0)).think(QUESTIONS[0], params)
    assert answer.paths == zero.paths
    assert answer.summary == zero.summary


@pytest.mark.parametrize("termination", TERMINATIONS)
def test_the_embedded_model_equals_the_reference(measured, termination):
    folder = resolve_model("tiny")
    for paths in (1, 3, 8):
        answer = load(folder).think(
            "What is 48213 * 7689?",
            # Warm enough that paths differ.
            ThinkingParams(paths=paths, seed=paths, temperature=1.3, termination=termination),
        )
        expected = reference_logprobs(reference(folder), answer)
        worst = largest_difference(answer, expected)
        measured("largest difference, tiny", worst)
        assert worst <= TOLERANCE
        if paths > 1:
            assert min(controls(folder, answer).values()) > 0.1
