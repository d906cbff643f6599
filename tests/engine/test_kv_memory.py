"""How much KV memory requests take, what they share, what is left, and what does not fit."""

from __future__ import annotations

import dataclasses

import pytest

from parathinker import CapacityError, Done, ThinkingParams, UsageError
from thinkers import RANDOM_MODELS_TOKEN_BYTES as TOKEN
from thinkers import distance, no_leak, thinker

LONG = ThinkingParams(
    paths=16,
    temperature=1.0,
    seed=1,
    max_path_tokens=60,
    min_path_tokens=60,
    max_summary_tokens=8,
    termination="last-finish",
)


@pytest.fixture(scope="module")
def folder(random_model):
    return random_model("llama", max_paths=16, seed=7)


def test_a_long_prompt_under_many_paths_is_stored_once_and_nothing_else_is(random_model, measured):
    folder = random_model("llama", max_paths=16, seed=7, max_position_embeddings=8192)
    model = thinker(folder, kv_tokens=8_000)
    prompt, loads = 4_096, []
    with no_leak(model):
        for tokens, event in enumerate(model.stream("x" * prompt, LONG), 1):
            if isinstance(event, Done):
                break
            if tokens % 160 == 0:
                loads.append((tokens, model.load().kv))
        assert max(kv.live_tokens for _, kv in loads) >= prompt + 16 * 50
        for tokens, kv in loads:
            # The engine may be ahead of who reads the stream, never behind.
            assert prompt + tokens - 32 <= kv.live_tokens <= prompt + 16 * 62 + 10
            assert kv.bytes_per_token == TOKEN
            excess = kv.in_use / (kv.live_tokens * TOKEN)
            measured("KV memory in use, times what live tokens need", excess)
            assert 1 <= excess <= 1.1


def test_requests_that_run_side_by_side_share_the_blocks_of_their_prompt(folder):
    model = thinker(folder, kv_tokens=4_000)
    params = dataclasses.replace(LONG, paths=2)
    with no_leak(model):
        one = model.stream("y" * 800, params)
        next(one)
        alone = model.load().kv
        others = [model.stream("y" * 800, params) for _ in range(3)]
        for stream in others:
            next(stream)
        together = model.load()
        assert together.running == 4
        assert together.kv.live_tokens <= 800 + 4 * 2 * 70
        assert together.kv.in_use <= alone.in_use + 4 * 2 * 72 * TOKEN
        for stream in (one, *others):
            stream.close()
        assert model.load().kv.in_use == 0


def test_prompts_are_kept_as_long_as_there_is_room_and_the_one_unused_longest_goes_first(folder):
    model = thinker(folder, kv_tokens=560)
    params = ThinkingParams(paths=1, seed=0, max_path_tokens=8, max_summary_tokens=8)
    prompts = {name: name * 160 for name in "abcd"}

    def cached(name: str) -> bool:
        return model.think(prompts[name], params).usage.cached_tokens == 160

    with no_leak(model):
        assert [cached(name) for name in "abc"] == [False] * 3
        assert model.load().kv.kept >= 3 * 160 * TOKEN
        assert cached("a")
        assert not cached("d")  # b makes room
        assert cached("a")
        assert cached("c")
        assert not cached("b")


def test_of_one_conversation_the_prompt_is_kept_longer_than_what_follows_from_it(folder):
    model = thinker(folder, kv_tokens=360)
    params = ThinkingParams(
        paths=1, seed=0, max_path_tokens=8, max_summary_tokens=80, min_summary_tokens=80
    )
    with no_leak(model):
        first = model.think("p" * 80, params)
        small = dataclasses.replace(params, max_summary_tokens=8, min_summary_tokens=0)
        model.think("q" * 200, small)
        again = model.think("And then?", small, after=first)
        assert 80 <= again.usage.cached_tokens < 80 + 80
        assert distance(folder, again) <= 1e-4


@pytest.mark.parametrize("ask", ["think", "stream"])
def test_a_request_that_can_never_fit_is_refused_at_once_with_the_figures(folder, ask):
    model = thinker(folder, kv_tokens=320)
    with pytest.raises(CapacityError, match=r"8 paths of up to 64 tokens, a prompt of 5") as caught:
        getattr(model, ask)("Which", ThinkingParams(paths=8, max_path_tokens=64))
    assert isinstance(caught.value, UsageError)
    assert "160 KiB" in str(caught.value)  # what there is
    with no_leak(model):
        model.think("Which", ThinkingParams(paths=2, max_path_tokens=64, max_summary_tokens=8))


@pytest.mark.parametrize("kv_tokens", [160, 400, 2_000])
@pytest.mark.parametrize("changes", [{}, {"paths": 2, "rounds": 2}, {"max_path_tokens": 8}])
def test_limits_that_were_left_open_shrink_until_the_request_fits(folder, kv_tokens, changes):
    model = thinker(folder, kv_tokens=kv_tokens)
    asked = dataclasses.replace(
        ThinkingParams(paths=4, temperature=1.0, seed=1, termination="last-finish"), **changes
    )
    with no_leak(model):
        answer = model.think("A question.", asked)
        assert answer.params.max_path_tokens <= kv_tokens
        assert model.load().preemptions == 0


def test_a_request_that_needs_all_memory_gets_it(folder):
    # 1 block of prompt, 4 of 3 paths each, 2 of summary.
    params = dataclasses.replace(
        LONG, paths=3, max_path_tokens=31, min_path_tokens=31, max_summary_tokens=15
    )
    model = thinker(folder, kv_tokens=8 * 15)
    with no_leak(model):
        model.think("12345678", params)
    with pytest.raises(CapacityError):
        thinker(folder, kv_tokens=8 * 14).think("12345678", params)
