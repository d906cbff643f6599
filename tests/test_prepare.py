"""From a question and its parameters to a request: limits, defaults, what is refused and why."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parathinker import Answer, Summary, ThinkingParams, Timings, Usage, UsageError
from parathinker.answer import Path as ThoughtPath
from parathinker.answer import Round
from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.modeling.config import DecoderConfig
from parathinker.params import DEFAULT_MAX_SUMMARY_TOKENS
from parathinker.prepare import Prepared, Preparer
from parathinker.prompt import PromptCodec
from tiny_models import CHAT_TEMPLATE

CONTEXT = 4096
QUESTION = "Well?"
"""Five tokens of the byte-level tokenizer."""
PLENTY = 10**6


def preparer(folder: Path, kv_tokens: int = PLENTY) -> Preparer:
    codec = PromptCodec.from_folder(folder)
    return Preparer(DecoderConfig.from_folder(folder), codec, frozenset({256}), kv_tokens)


@pytest.fixture(scope="module")
def ours(tiny_random_model: Path) -> Preparer:
    return preparer(tiny_random_model)


@pytest.fixture(scope="module")
def codec(tiny_random_model: Path) -> PromptCodec:
    return PromptCodec.from_folder(tiny_random_model)


def refusal(ours: Preparer, question: Any = QUESTION, after: Any = None, **params: Any) -> str:
    with pytest.raises(UsageError) as caught:
        ours.prepare(question, ThinkingParams(**params), after)
    return str(caught.value)


def answered(prepared: Prepared, codec: PromptCodec, path: int = 9, summary: int = 5) -> Answer:
    """An answer to a request, with paths and summaries of so many tokens."""
    control, ids = codec.control, prepared.request.thought_ids
    rounds = []
    for _ in range(prepared.request.rounds):
        paths = [[control.opens[i - 1], *[40 + i] * (path - 2), control.closes[i - 1]] for i in ids]
        said = [control.summary_open, *[50] * (summary - 2), control.summary_close]
        rounds.append(
            Round(
                [
                    ThoughtPath(i, "", tokens, [None] * path, "stop")
                    for i, tokens in zip(ids, paths, strict=True)
                ],
                Summary("", said, [None] * summary, "stop"),
            )
        )
    return Answer(
        "",
        rounds[-1].paths,
        rounds[-1].summary,
        rounds,
        list(prepared.request.prompt),
        Usage(0, 0, 0, 0, 0),
        Timings(0, 0, 0, 0, 0),
        prepared.params,
        prepared.after,
    )


# -- limits ----------------------------------------------------------------------------------------


def test_limits_left_open_fill_the_context(ours: Preparer) -> None:
    params = ours.prepare(QUESTION, ThinkingParams()).params
    assert params.max_path_tokens is not None
    assert params.max_summary_tokens is not None
    # Beside their limits a path has its opening token, the summary its own.
    assert len(QUESTION) + 1 + params.max_path_tokens + 1 + params.max_summary_tokens == CONTEXT


def test_a_limit_left_open_gives_way_to_the_one_that_is_set(ours: Preparer) -> None:
    room = CONTEXT - len(QUESTION) - 2
    long_path = ours.prepare(QUESTION, ThinkingParams(max_path_tokens=room - 7)).params
    assert long_path.max_summary_tokens == 7
    long_summary = ours.prepare(QUESTION, ThinkingParams(max_summary_tokens=room - 7)).params
    assert long_summary.max_path_tokens == 7


def test_limits_that_do_not_fit_are_named_with_the_room_there_is(ours: Preparer) -> None:
    said = refusal(ours, max_path_tokens=4000, max_summary_tokens=100)
    assert "max_path_tokens 4000 and max_summary_tokens 100 do not fit" in said
    assert f"leaves {CONTEXT - len(QUESTION) - 2} for a path and the summary" in said
    assert "min_path_tokens 5000 do not fit" in refusal(ours, min_path_tokens=5000)


def test_limits_left_open_fit_into_the_memory(tiny_random_model: Path) -> None:
    kv_tokens = 1200
    found = preparer(tiny_random_model, kv_tokens).prepare(
        QUESTION, ThinkingParams(paths=8, max_summary_tokens=40)
    )
    path = found.params.max_path_tokens
    assert path is not None
    blocks = [-(-n // BLOCK_TOKENS) for n in (5, *[1 + path] * 8, 1 + 40)]
    assert kv_tokens - 2 * 10 * BLOCK_TOKENS < sum(blocks) * BLOCK_TOKENS <= kv_tokens


def test_a_checkpoints_own_limit_gives_way_to_a_minimum(
    tiny_random_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_random_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["parathinker"] = {"max_path_tokens": 60, "max_summary_tokens": 20}
    (folder / "config.json").write_text(json.dumps(config))
    own = preparer(folder)
    params = own.prepare(QUESTION, ThinkingParams(min_path_tokens=59)).params
    assert (params.max_path_tokens, params.max_summary_tokens) == (60, 20)
    params = own.prepare(
        QUESTION, ThinkingParams(min_path_tokens=100, min_summary_tokens=30)
    ).params
    assert params.max_path_tokens is not None
    assert params.max_path_tokens > 100
    assert params.max_summary_tokens is not None
    assert 30 < params.max_summary_tokens <= DEFAULT_MAX_SUMMARY_TOKENS


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_rounds_share_the_context(ours: Preparer, rounds: int) -> None:
    prepared = ours.prepare(QUESTION, ThinkingParams(rounds=rounds, summary_prefix="So: "))
    path, summary = prepared.request.path.max_tokens, prepared.request.summary.max_tokens
    one_round = 1 + path + 1 + len("So: ") + summary
    assert CONTEXT - rounds < len(QUESTION) + rounds * one_round <= CONTEXT


def test_too_many_rounds_are_not_blamed_on_the_question(ours: Preparer) -> None:
    assert "the question and its rounds are too long" in refusal(ours, rounds=2000)
    assert "the question is too long: 5000 tokens" in refusal(ours, "x" * 5000)


def test_forced_beginnings_count_towards_limit_and_budget(ours: Preparer) -> None:
    assert "leaves no room behind it" in refusal(ours, path_prefix="0123456789", max_path_tokens=10)
    ours.prepare(QUESTION, ThinkingParams(path_prefix="0123456789", max_path_tokens=11))
    said = refusal(ours, paths=2, path_prefix="0123456789", budget=21)
    assert "budget should be at least 22 with this path_prefix" in said
    ours.prepare(QUESTION, ThinkingParams(paths=2, path_prefix="0123456789", budget=22))
    # Automatic width begins with two.
    ours.prepare(QUESTION, ThinkingParams(paths="auto", path_prefix="0123456789", budget=22))


# -- paths -----------------------------------------------------------------------------------------


def test_paths_get_thought_ids_and_prefixes_in_order(ours: Preparer) -> None:
    request = ours.prepare(QUESTION, ThinkingParams(paths=3, path_prefix=("a", "", "b"))).request
    assert request.thought_ids == (1, 2, 3)
    assert [len(prefix) for prefix in request.path_prefixes] == [1, 0, 1]
    request = ours.prepare(QUESTION, ThinkingParams(paths=3, path_prefix="a")).request
    assert len(request.path_prefixes) == 3


def test_automatic_width_says_how_many_there_may_be(
    ours: Preparer, random_model: Callable[..., Path]
) -> None:
    prepared = ours.prepare(QUESTION, ThinkingParams(paths="auto"))
    assert prepared.request.auto is not None
    assert prepared.request.auto.wave == 2
    assert prepared.request.paths_to_finish > 10**6, "all paths run until they close"
    assert prepared.params.max_paths == len(prepared.request.thought_ids) == 8
    assert "max_paths should be at most 8" in refusal(ours, paths="auto", max_paths=9)
    # A model of a single path does not become wider.
    single = preparer(random_model("llama", max_paths=1)).prepare(
        QUESTION, ThinkingParams(paths="auto")
    )
    assert single.request.thought_ids == (1,)
    assert single.request.auto is not None
    assert single.request.auto.wave == 1


def test_automatic_width_compares_answers_not_texts(ours: Preparer, codec: PromptCodec) -> None:
    auto = ours.prepare(QUESTION, ThinkingParams(paths="auto")).request.auto
    assert auto is not None

    def bodies(*texts: str) -> list[list[int]]:
        return [
            [codec.control.opens[i], *codec.encode_text(text), codec.control.closes[i]]
            for i, text in enumerate(texts)
        ]

    assert auto.agree(bodies("6 * 7 is 42", "the answer: 42"))
    assert not auto.agree(bodies("6 * 7 is 42", "6 * 7 is 43"))


def test_given_paths_overrule_whatever_says_how_to_think(
    ours: Preparer, codec: PromptCodec
) -> None:
    control = codec.control
    params = ThinkingParams(
        paths="auto", max_paths=4, rounds=3, budget=5, min_path_tokens=9, continuation="Wait",
        path_prefix="x",
    )  # fmt: skip
    found = ours.with_paths(QUESTION, params, [[control.opens[0], 65, control.closes[0]], []])
    assert found.request.given_paths == ((65,), ())
    assert found.request.thought_ids == (1, 2)
    assert (found.request.rounds, found.request.auto) == (1, None)
    with pytest.raises(UsageError, match="token ids of paths should be from 0"):
        ours.with_paths(QUESTION, ThinkingParams(), [[10**6]])


# -- the rest of a request -------------------------------------------------------------------------


def test_every_default_is_filled_in_and_can_be_used_again(ours: Preparer) -> None:
    for params in (ThinkingParams(), ThinkingParams(paths="auto"), ThinkingParams(rounds=2)):
        first = ours.prepare(QUESTION, params)
        assert None not in (
            first.params.seed,
            first.params.temperature,
            first.params.summary_prefix,
        )
        again = ours.prepare(QUESTION, first.params)
        assert again.params == first.params
        plain = {"auto": None, "stop": None}
        assert dataclasses.replace(again.request, **plain) == dataclasses.replace(
            first.request, **plain
        )


def test_seeds_are_drawn_anew_for_each_request(ours: Preparer) -> None:
    seeds = {ours.prepare(QUESTION, ThinkingParams()).request.seed for _ in range(5)}
    assert len(seeds) == 5


def test_stop_tokens_join_the_models_own(ours: Preparer, codec: PromptCodec) -> None:
    closing = codec.control.closes[0]
    request = ours.prepare(QUESTION, ThinkingParams(stop_token_ids=(65, closing))).request
    assert request.end_ids == {256, 65}
    assert "stop_token_ids should be below" in refusal(ours, stop_token_ids=(10**6,))


def test_stop_texts_are_found_across_tokens(ours: Preparer, codec: PromptCodec) -> None:
    stop = ours.prepare(QUESTION, ThinkingParams(stop=("Ende", "\n\n"))).request.stop
    assert stop is not None
    assert stop(codec.encode_text("x" * 500 + "das Ende"))
    assert not stop(codec.encode_text("End\n"))
    assert ours.prepare(QUESTION, ThinkingParams()).request.stop is None


BAD_QUESTIONS: dict[str, tuple[Any, str]] = {
    "an empty text": (" ", "the question is empty"),
    "nothing": (None, "a question should be a text or messages"),
    "a number": (5, "a question should be a text or messages"),
    "no messages": ([], "a question should be a text or messages"),
    "a message that is a text": (["x"], "messages should be a list of"),
    "a message without a role": ([{"content": "x"}], "messages should be a list of"),
    "content that is no text": ([{"role": "user", "content": 1}], "messages should be a list of"),
    "a role with markup": ([{"role": "<b>", "content": "x"}], "role should be a plain word"),
    "an answer at the end": (
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        "the last message should not be the assistant's",
    ),
}


@pytest.mark.parametrize("what", BAD_QUESTIONS)
def test_bad_questions_are_refused(random_model: Callable[..., Path], what: str) -> None:
    question, message = BAD_QUESTIONS[what]
    assert message in refusal(
        preparer(random_model("llama", chat_template=CHAT_TEMPLATE)), question
    )


# -- follow-ups ------------------------------------------------------------------------------------


def test_follow_up_begins_with_the_token_that_has_no_keys_yet(
    ours: Preparer, codec: PromptCodec
) -> None:
    first = answered(ours.prepare(QUESTION, ThinkingParams(paths=2, rounds=2)), codec)
    found = ours.prepare("And then?", ThinkingParams(paths=1), first)
    assert found.after is first
    assert found.request.prompt[0] == codec.control.summary_close
    [turn] = found.request.history
    assert turn.prompt == tuple(first.prompt_token_ids)
    assert [len(one.summary) for one in turn.rounds] == [5, 4]
    assert turn.rounds[1].paths[1] == (2, tuple(first.paths[1].token_ids))


def test_follow_ups_take_the_context_of_the_longest_paths(
    ours: Preparer, codec: PromptCodec
) -> None:
    first = answered(ours.prepare(QUESTION, ThinkingParams(paths=2)), codec, path=900, summary=100)
    second = ours.prepare("Why?", ThinkingParams(max_summary_tokens=10), first)
    prompt = len(QUESTION) + 900 + 99 + len(second.request.prompt)
    assert prompt + 1 + second.request.path.max_tokens + 1 + 10 == CONTEXT
    third = answered(second, codec, path=2990, summary=100)
    prompt += 2990 + 99 + len(second.request.prompt)
    assert f"the conversation is too long: {prompt} tokens" in refusal(ours, "Why?", third)


def test_conversations_may_have_any_number_of_turns(ours: Preparer, codec: PromptCodec) -> None:
    params, answer = ThinkingParams(paths=1, max_path_tokens=1, max_summary_tokens=1), None
    made = ours.prepare("x", params)
    for _ in range(1200):
        made = Prepared(made.request, made.params, answer)
        answer = answered(made, codec, path=2, summary=2)
    assert answer is not None
    assert "too long" in refusal(ours, "Why?", answer)


def test_what_is_no_answer_of_this_model_is_refused(ours: Preparer, codec: PromptCodec) -> None:
    answer = answered(ours.prepare(QUESTION, ThinkingParams(paths=2)), codec)
    assert "after should be an Answer; got 'x'" in refusal(ours, after="x")
    foreign = dataclasses.replace(answer, prompt_token_ids=[10**6])
    assert "after should be an answer of this model" in refusal(ours, after=foreign)
    path = dataclasses.replace(answer.paths[0], thought_id=9)
    wider = dataclasses.replace(answer, rounds=[Round([path], answer.summary)])
    assert "after should be an answer of this model" in refusal(ours, after=wider)
    said = refusal(ours, [{"role": "user", "content": "x"}], answer)
    assert "a question that follows up an answer should be a text" in said
