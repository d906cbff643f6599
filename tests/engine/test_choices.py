"""How tokens are chosen and segments ended: penalties, least lengths, continuations, budgets."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter

import pytest

from parathinker import Answer, ThinkingParams, UsageError
from parathinker.prompt import PromptCodec
from reference import reference_logits, segments_of
from thinkers import TOLERANCE, reference, shared, thinker, written

codec = functools.cache(PromptCodec.from_folder)
QUESTION = "What is 6 * 7?"
ASKED = ThinkingParams(
    paths=4,
    temperature=1.0,
    seed=1,
    max_path_tokens=24,
    max_summary_tokens=12,
    termination="last-finish",
)


@pytest.fixture(scope="module")
def folder(random_model):
    return random_model("llama", max_paths=16, seed=7)


def ask(folder, question: str = QUESTION, after: Answer | None = None, **changes) -> Answer:
    return shared(folder).think(question, dataclasses.replace(ASKED, **changes), after=after)


def ends(folder) -> set[int]:
    return {codec(folder).tokenizer.token_to_id("<|endoftext|>")}


@pytest.mark.parametrize(
    "penalties",
    [
        {"repetition_penalty": 1.8},
        {"frequency_penalty": 1.5},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -0.7},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 1.0},
    ],
    ids=str,
)
def test_penalties_change_greedy_choices_as_defined(folder, penalties):
    first = ask(folder, "Which one?", temperature=0.0)
    greedy = {"temperature": 0.0, "min_path_tokens": 10, "min_summary_tokens": 4, "rounds": 2}
    answer = ask(folder, after=first, **greedy, **penalties)
    assert written(answer) != written(ask(folder, after=first, **greedy))
    repetition = penalties.get("repetition_penalty", 1.0)
    frequency = penalties.get("frequency_penalty", 0.0)
    presence = penalties.get("presence_penalty", 0.0)
    prompts = {*first.prompt_token_ids, *answer.prompt_token_ids}
    control, checked = codec(folder).control, 0
    segments = list(segments_of(answer))
    for segment, logits_TV in zip(
        segments, reference_logits(reference(folder), answer), strict=True
    ):
        thought_id = getattr(segment, "thought_id", 0)
        closing = control.closes[thought_id - 1] if thought_id else control.summary_close
        least = 10 if thought_id else 4
        for k in range(1, len(segment.token_ids)):
            if segment.logprobs[k] is None:
                continue
            before = segment.token_ids[:k]
            row = logits_TV[k - 1].tolist()
            for token in prompts | set(before):
                row[token] = row[token] / repetition if row[token] > 0 else row[token] * repetition
            for token, times in Counter(before).items():
                row[token] -= frequency * times + presence
            banned = control.ids - {closing}
            if k < least:  # so many there would be, with this one
                banned |= {closing} | ends(folder)
            allowed = [value for token, value in enumerate(row) if token not in banned]
            assert segment.token_ids[k] not in banned
            assert row[segment.token_ids[k]] >= max(allowed) - TOLERANCE
            checked += 1
    assert checked > 50


def test_paths_and_summary_have_the_tokens_they_have_to_have(folder):
    free = [ask(folder, seed=seed) for seed in range(6)]
    assert min(len(path.token_ids) for answer in free for path in answer.paths) < 10
    assert min(len(answer.summary.token_ids) for answer in free) < 10
    for seed in range(6):
        answer = ask(folder, seed=seed, min_path_tokens=10, min_summary_tokens=9)
        assert all(len(path.token_ids) - 1 >= 10 for path in answer.paths)
        assert len(answer.summary.token_ids) - 1 >= 9
        for segment in segments_of(answer):
            assert not ends(folder) & set(segment.token_ids[:9])
    exact = ask(folder, min_path_tokens=24, min_summary_tokens=12)
    assert {len(path.token_ids) for path in exact.paths} == {25}
    assert len(exact.summary.token_ids) == 13


def test_a_stop_token_ends_a_path_like_its_closing_token(folder):
    free = ask(folder)
    longest = max(free.paths, key=lambda path: len(path.token_ids))
    stop = longest.token_ids[len(longest.token_ids) // 2]
    at = longest.token_ids.index(stop)
    answer = ask(folder, stop_token_ids=(stop,))
    path = answer.paths[longest.thought_id - 1]
    assert path.token_ids[:-1] == longest.token_ids[: at + 1]
    assert path.token_ids[-1] == codec(folder).control.closes[longest.thought_id - 1]
    assert path.logprobs[-1] is None
    assert path.finish_reason == "stop"
    late = ask(folder, stop_token_ids=(stop,), min_path_tokens=at + 2)
    assert len(late.paths[longest.thought_id - 1].token_ids) > at + 2


def test_stop_tokens_end_the_summary_and_have_to_be_in_the_vocabulary(folder):
    frees = [ask(folder, seed=seed) for seed in range(8)]
    free = max(frees, key=lambda answer: len(answer.summary.token_ids))
    stop = free.summary.token_ids[5]
    params = dataclasses.replace(free.params, stop_token_ids=(stop,))
    given = [path.token_ids for path in free.paths]
    [answer] = shared(folder).summarize([QUESTION], [given], params)
    assert answer.summary.token_ids == free.summary.token_ids[: len(answer.summary.token_ids)]
    assert answer.summary.token_ids[-1] == stop
    assert answer.summary.finish_reason == "stop"
    with pytest.raises(UsageError, match=r"stop_token_ids should be below \d+; got 100000"):
        ask(folder, stop_token_ids=(100_000,))


def test_a_continuation_stands_where_the_path_would_have_ended_too_early(folder):
    wait = codec(folder).encode_text("Wait, ")
    continued = 0
    for seed in range(8):
        free = ask(folder, seed=seed, max_path_tokens=60)
        held = ask(folder, seed=seed, max_path_tokens=60, min_path_tokens=20, continuation="Wait, ")
        for before, path in zip(free.paths, held.paths, strict=True):
            assert 20 <= len(path.token_ids) - 1 <= 60
            inside = list(zip(path.token_ids, path.logprobs, strict=True))[1:-1]
            forced = [token for token, logprob in inside if logprob is None]
            assert forced == wait * (len(forced) // len(wait))
            ended = len(before.token_ids) - 1
            if path.token_ids[:ended] == before.token_ids[:ended] and ended < 20:
                assert path.token_ids[ended : ended + len(wait)] == wait
                continued += 1
    assert continued > 3


@pytest.mark.parametrize("most", [21, 22, 24])
def test_a_continuation_keeps_to_the_longest_a_path_may_be(folder, most):
    for seed in range(6):
        answer = ask(
            folder, seed=seed, max_path_tokens=most, min_path_tokens=20, continuation="Wait! " * 5
        )
        for path in answer.paths:
            assert 20 <= len(path.token_ids) - 1 <= most
            assert path.token_ids[-1] == codec(folder).control.closes[path.thought_id - 1]


def test_paths_that_agree_are_enough(folder):
    forced = len(codec(folder).encode_text("It is 42."))
    auto = {"paths": "auto", "max_path_tokens": forced + 1, "path_prefix": "It is 42."}
    assert len(ask(folder, **auto).paths) == 2
    # The same without a common answer goes on to as many as there may be.
    assert len(ask(folder, paths="auto", max_paths=5).paths) == 5
    assert len(ask(folder, paths="auto").paths) == 8


@pytest.mark.parametrize("budget", [2, 9, 40, 61, 100])
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("prefix", [None, "Let us"])
def test_every_round_of_any_width_stays_within_the_budget(folder, budget, rounds, prefix):
    changes = {"paths": "auto", "rounds": rounds, "budget": budget, "path_prefix": prefix}
    if prefix is not None and budget < 2 * (len(prefix) + 1):
        with pytest.raises(UsageError, match=r"budget should be at least 14 with this path_prefix"):
            ask(folder, **changes)
        return
    for seed in range(3):
        answer = ask(folder, seed=seed, **changes)
        assert len(answer.rounds) == rounds
        for one in answer.rounds:
            spent = sum(len(path.token_ids) - 1 for path in one.paths)
            assert spent <= budget
            assert len(one.paths) >= 2


@pytest.mark.parametrize("termination", ["first-finish", "half-finish", "last-finish"])
def test_a_budget_holds_for_paths_with_prefixes_and_continuations(folder, termination):
    for seed in range(4):
        answer = ask(
            folder,
            seed=seed,
            termination=termination,
            budget=60,
            path_prefix=("A", "", "Begin: ", "On"),
            min_path_tokens=15,
            continuation="Wait a moment, ",
        )
        assert sum(len(path.token_ids) - 1 for path in answer.paths) <= 60


def test_a_prefix_that_leaves_no_room_is_refused(folder):
    with pytest.raises(UsageError, match="path_prefix has 30 tokens, and max_path_tokens 24"):
        ask(folder, path_prefix="x" * 30)
    assert all(len(p.token_ids) == 25 for p in ask(folder, path_prefix="x" * 23).paths)


def test_an_answer_of_another_model_or_a_chat_cannot_be_followed_up(folder, random_model):
    answer = ask(folder)
    with pytest.raises(UsageError, match="follows up an answer should be a text"):
        shared(folder).think([{"role": "user", "content": "Why?"}], ASKED, after=answer)
    token = codec(folder).control.pad + 1
    wrong = dataclasses.replace(answer, prompt_token_ids=[token + 10_000])
    with pytest.raises(UsageError, match="after should be an answer of this model"):
        ask(folder, after=wrong)


def test_a_conversation_that_outgrows_the_context_is_refused(random_model):
    folder = random_model("llama", max_position_embeddings=128)
    model, answer = thinker(folder), None
    params = ThinkingParams(paths=2, temperature=1.0, seed=1)

    def go_on(after: Answer | None) -> Answer:
        return model.think("And then?", params, after=after)

    for _ in range(2):
        answer = go_on(answer)
    with pytest.raises(UsageError, match=r"conversation is too long: \d+ tokens.*128"):
        functools.reduce(lambda answer, _: go_on(answer), range(20), answer)
