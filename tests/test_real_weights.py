"""Exactness on a real model: SmolLM2-135M-Instruct with control tokens and thought embeddings."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from parathinker import Answer, ParaThinker, ParaThinkerError, ThinkingParams
from parathinker.answer import Round
from reference import largest_difference, reference_logprobs, reference_model
from smollm2 import smollm2_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
QUESTION = "Which is larger, 9.11 or 9.9? Think about it before you answer."


@pytest.fixture(scope="module")
def folder():
    try:
        return smollm2_folder()
    except ParaThinkerError as error:
        pytest.skip(str(error))


def spoken(answer: Answer, logprobs: list[list[float]]) -> Answer:
    """The answer with other log-probabilities where it has its own."""

    def taken(segment, values):
        kept = [None if a is None else b for a, b in zip(segment.logprobs, values, strict=True)]
        return dataclasses.replace(segment, logprobs=kept)

    *paths, summary = map(taken, [*answer.paths, answer.summary], logprobs)
    rounds = [Round(paths, summary)]
    return dataclasses.replace(answer, paths=paths, summary=summary, rounds=rounds)


@pytest.mark.parametrize("termination", ["first-finish", "half-finish", "last-finish"])
def test_real_weights_give_the_references_logprobs(folder, measured, termination):
    # These weights never learned to close a path; punctuation does it for them.
    answer = ParaThinker.from_pretrained(folder).think(
        QUESTION,
        ThinkingParams(
            paths=4,
            termination=termination,
            temperature=0.8,
            seed=3,
            max_path_tokens=48,
            max_summary_tokens=24,
            stop=(".", ","),
            summary_prefix="By analyzing multiple reasoning processes above, I concluded that: ",
        ),
    )
    lengths = [len(path.token_ids) for path in answer.paths]
    assert termination == "first-finish" or len(set(lengths)) > 1, lengths
    model = reference_model(folder)
    expected = reference_logprobs(model, answer)
    worst = largest_difference(answer, expected)
    measured("largest difference, SmolLM2-135M", worst)
    assert worst <= 1e-4
    # How much of it is float32's own: both against the same model in float64.
    exact = reference_logprobs(copy.deepcopy(model).double(), answer)
    mine, theirs = (largest_difference(a, exact) for a in (answer, spoken(answer, expected)))
    measured("largest difference to float64, SmolLM2-135M, engine", mine)
    measured("largest difference to float64, SmolLM2-135M, transformers", theirs)
    assert mine <= 1e-4
    for name, broken in {
        "no thought embedding": {"thoughts": False},
        "flattened positions": {"flat_positions": True},
        "a dropped path": {"drop_path": lengths.index(max(lengths)) + 1},
    }.items():
        distance = largest_difference(answer, reference_logprobs(model, answer, **broken))
        measured(f"smallest difference with {name}, SmolLM2-135M", distance, least=True)
        assert distance > 0.1, name


def test_the_chat_template_gives_the_ids_of_transformers(folder):
    from transformers import AutoTokenizer

    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True
    )
    answer = ParaThinker.from_pretrained(folder).think(
        QUESTION, ThinkingParams(paths=1, max_path_tokens=1, max_summary_tokens=1)
    )
    assert answer.prompt_token_ids == expected["input_ids"]
