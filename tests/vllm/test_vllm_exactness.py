"""vLLM equals plain transformers with an explicit mask, and the native engine, token for token."""

from __future__ import annotations

import pytest
from vllm_models import BLOCK, QUESTIONS, TOLERANCE, difference, ends, reference, tokens

from parathinker import ThinkingParams
from parathinker.params import TERMINATIONS
from tiny_models import save_released_model

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral")


def controls(folder, answer):
    """How far the answer is from references that get one thing wrong, the least of them."""
    wrong = [{"thoughts": False}, {"flat_positions": True}, {"drop_path": 1}]
    return min(difference(folder, answer, **one) for one in wrong)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_answers_equal_the_reference_and_the_native_engines(
    start, native, random_model, measured, model_type
):
    folder = random_model(model_type, head_dim=32, max_paths=16, tied=model_type == "llama")
    model, worst, seen = start(folder), 0.0, set()
    for number, termination in enumerate(TERMINATIONS):
        for paths in (1, 3, 8, 16):
            params = ThinkingParams(
                paths=paths,
                termination=termination,
                temperature=0.0 if paths == 3 else 1.0,
                seed=number,
                max_path_tokens=2 * BLOCK + 5,
                max_summary_tokens=12,
                top_logprobs=3,
                summary_prefix="So:" if number % 2 else None,
            )
            question = QUESTIONS[(number + paths) % len(QUESTIONS)]
            answer = model.think(question, params)
            worst = max(worst, difference(folder, answer))
            seen |= set(ends(answer))
            own = native(folder).think(question, params)
            # The same seeds choose the same tokens, and the same things end a path.
            assert tokens(answer) == tokens(own)
            assert ends(answer) == ends(own)
            if paths > 1:
                assert controls(folder, answer) > 10 * TOLERANCE
    measured(f"vLLM: largest difference, {model_type}", worst)
    assert worst <= TOLERANCE
    assert {"stop", "cut", "length"} <= seen


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("paths", [1, 3])
def test_ends_of_blocks_make_no_difference(start, folder, length, paths):
    params = ThinkingParams(
        paths=paths,
        path_prefix=tuple("y" * (length + i - 2) for i in range(paths)),
        max_path_tokens=length + paths + 3,
        termination="last-finish",
        temperature=0.0,
        max_summary_tokens=4,
    )
    for prompt in (length - 2, length):
        answer = start(folder).think("x" * prompt, params)
        assert difference(folder, answer) <= TOLERANCE


def test_the_released_format_is_read(start, native, tmp_path):
    # Its random model has heads of 16, which vLLM's CPU kernels do not know.
    save_released_model(tmp_path, head_dim=32, closing=3.0)
    params = ThinkingParams(paths=8, temperature=1.0, seed=1, max_path_tokens=50)
    answer = start(tmp_path).think("Why?", params)
    assert tokens(answer) == tokens(native(tmp_path).think("Why?", params))
    assert difference(tmp_path, answer) <= TOLERANCE


def test_rounds_equal_the_reference(start, native, folder, measured):
    params = ThinkingParams(
        paths=3, rounds=3, temperature=1.0, seed=5, max_path_tokens=45, max_summary_tokens=20
    )
    answer = start(folder).think("Again and again?", params)
    assert tokens(answer) == tokens(native(folder).think("Again and again?", params))
    worst = difference(folder, answer)
    measured("vLLM: largest difference, three rounds", worst)
    assert worst <= TOLERANCE
    assert difference(folder, answer, drop_round=1) > 100 * TOLERANCE


FANCY = {
    "cuts": {"top_k": 12, "top_p": 0.8, "min_p": 0.01},
    "penalties": {
        "repetition_penalty": 1.3,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.1,
    },
    "least tokens": {"min_path_tokens": 30, "min_summary_tokens": 6},
    "continuation": {"min_path_tokens": 50, "continuation": "Wait"},
    "budget": {"budget": 70},
    "stop texts": {"stop": ("a", "e", "i"), "summary_stop": ("o", "u")},
    "stop tokens": {"stop_token_ids": tuple(range(40, 70))},
    "path prefix": {"path_prefix": ("a" * 33, "", "b", "c" * 60)},
    "auto width": {"paths": "auto", "max_paths": 6, "termination": "first-finish"},
    "summary cooler": {"summary_temperature": 0.0, "summary_prefix": "So"},
}


@pytest.mark.parametrize("name", FANCY)
def test_whatever_params_say_is_done_as_the_native_engine_does_it(start, native, folder, name):
    wanted = {
        "paths": 4,
        "temperature": 1.0,
        "max_path_tokens": 64,
        "max_summary_tokens": 16,
        "termination": "half-finish",
        **FANCY[name],
    }
    for seed in (1, 2):
        params = ThinkingParams(seed=seed, **wanted)
        answer, own = (m.think("Why?", params) for m in (start(folder), native(folder)))
        assert tokens(answer) == tokens(own)
        assert ends(answer) == ends(own)
        assert difference(folder, answer) <= TOLERANCE


def test_given_paths_are_summed_up(start, native, folder):
    given = [[list(range(40, 40 + n)) for n in (3, 40, 0, 64)]]
    params = ThinkingParams(temperature=0.0, max_summary_tokens=8)
    answer, own = (m.summarize(["Why?"], given, params)[0] for m in (start(folder), native(folder)))
    assert tokens(answer) == tokens(own)
    assert difference(folder, answer) <= TOLERANCE


def test_plain_text_is_written_as_the_native_engine_writes_it(start, native, folder):
    params = ThinkingParams(
        paths=1, temperature=1.0, seed=3, max_path_tokens=50, min_path_tokens=20, continuation=" so"
    )
    answers = [m.complete("Once upon a time", params) for m in (start(folder), native(folder))]
    assert tokens(answers[0]) == tokens(answers[1])


def test_leaving_thought_embeddings_out_is_leaving_them_out(start, folder):
    model = start(folder, thought_embeddings=False)
    params = ThinkingParams(paths=3, temperature=0.0, max_path_tokens=20, max_summary_tokens=4)
    answer = model.think("Why?", params)
    assert difference(folder, answer) > 100 * TOLERANCE
    plain = reference(folder)
    tables = [layer.self_attn.seg_embeddings.weight for layer in plain.model.layers]
    kept = [table.data.clone() for table in tables]
    try:
        for table in tables:
            table.data.zero_()
        assert difference(folder, answer) <= TOLERANCE
    finally:
        for table, values in zip(tables, kept, strict=True):
            table.data.copy_(values)
