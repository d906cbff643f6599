"""Plain completions equal plain transformers, token for token and logprob for logprob."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import shutil
from collections.abc import Callable
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from parathinker import (
    Answer,
    CheckpointError,
    Done,
    ParaThinker,
    RawPrompt,
    SummaryToken,
    ThinkingParams,
    UsageError,
)
from parathinker.modeling.folders import resolve_model
from reference import largest_difference, reference_logprobs
from thinkers import ENGINES, TOLERANCE, assert_same, no_leak, reference, shared, thinker
from tiny_models import (
    CHAT_TEMPLATE,
    EOS,
    build_model,
    byte_tokenizer,
    fast_tokenizer,
    save_plain_model,
)

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral")
QUESTION = "What is 48213 * 7689?"
WARM = ThinkingParams(temperature=1.0, seed=3, max_path_tokens=40)
GREEDY = ThinkingParams(temperature=0.0, max_path_tokens=40)
NEVER_ENDS = 0.0
"""As the scale of the end token's row: it gets a logit of 0, where others reach far above."""
END = 256
ENDING = ThinkingParams(temperature=1.0, seed=2)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def make(model_type: str = "qwen2", **options: Any) -> Path:
        return save_plain_model(tmp_path_factory.mktemp("plain"), model_type, **options)

    return make


@cache
def plain(folder: Path, engine: str = ENGINES[-1]) -> ParaThinker:
    return thinker(folder, engine, plain=True)


@torch.no_grad()
def logits_of(folder: Path, answer: Answer, thoughts: bool = True) -> Tensor:
    """Logits [written, V] that each written token was chosen from, by one causal forward."""
    model = reference(folder)
    ids = [*answer.prompt_token_ids, *answer.summary.token_ids]
    tables = [
        layer.self_attn.seg_embeddings.weight
        for layer in model.model.layers
        if hasattr(layer.self_attn, "seg_embeddings")
    ]
    kept = [table.clone() for table in tables]
    for table in tables:
        table *= float(thoughts)
    logits_SV = model(torch.tensor([ids])).logits[0]
    for table, before in zip(tables, kept, strict=True):
        table.copy_(before)
    return logits_SV[len(answer.prompt_token_ids) - 1 : -1]


def distance(folder: Path, answer: Answer, **broken: bool) -> float:
    """Largest difference of any logprob to plain transformers."""
    logprobs = logits_of(folder, answer, **broken).double().log_softmax(-1)
    chosen = logprobs.gather(-1, torch.tensor(answer.summary.token_ids)[:, None])[:, 0]
    differences = [
        abs(mine - theirs)
        for mine, theirs in zip(answer.summary.logprobs, chosen.tolist(), strict=True)
        if mine is not None
    ]
    assert differences
    assert all(map(math.isfinite, differences))
    return max(differences)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_plain_models_logprobs_and_greedy_tokens_are_those_of_transformers(
    plain_model, measured, model_type, engine
):
    folder = plain_model(model_type, seed=ARCHITECTURES.index(model_type))
    for question in (QUESTION, "Why?", "Ünïcode → 日本語 🙂\n" * 20):
        answer = plain(folder, engine).complete(question, WARM)
        worst = distance(folder, answer)
        measured(f"largest difference, completion, {model_type}", worst)
        assert worst <= TOLERANCE
        greedy = plain(folder, engine).complete(question, GREEDY)
        prompt = torch.tensor([greedy.prompt_token_ids])
        expected = reference(folder).generate(
            prompt, max_new_tokens=40, do_sample=False, attention_mask=torch.ones_like(prompt)
        )
        assert greedy.summary.token_ids == expected[0, prompt.shape[1] :].tolist()
        assert greedy.prompt_token_ids == expected[0, : prompt.shape[1]].tolist()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_thinking_model_completes_with_thought_id_0_and_no_control_token(
    random_model, measured, model_type, engine
):
    folder = random_model(model_type, seed=ARCHITECTURES.index(model_type))
    model = shared(folder, engine)
    control = model._codec.control.ids
    hot = ThinkingParams(temperature=5.0, seed=1, max_path_tokens=200)
    for params in (WARM, GREEDY, hot):
        answer = model.complete(QUESTION, params)
        worst = distance(folder, answer)
        measured(f"largest difference, completion with thoughts, {model_type}", worst)
        assert worst <= TOLERANCE
        assert not control.intersection(answer.summary.token_ids)
    without = distance(folder, model.complete(QUESTION, WARM), thoughts=False)
    measured("smallest difference of a completion without row 0", without, least=True)
    assert without > 0.1
    allowed = logits_of(folder, model.complete(QUESTION, GREEDY))
    unedited = allowed.argmax(-1).tolist()
    allowed[:, sorted(control)] = -torch.inf
    assert model.complete(QUESTION, GREEDY).summary.token_ids == allowed.argmax(-1).tolist()
    if model_type == "llama":
        assert control.intersection(unedited), "or the ban made no difference"


def test_the_embedded_model_completes_exactly(measured):
    folder = resolve_model("tiny")
    answer = shared("tiny").complete("What is 12 * 34?", WARM)
    measured("largest difference, completion, tiny", distance(folder, answer))
    assert distance(folder, answer) <= TOLERANCE


def test_an_answer_is_what_was_written_and_nothing_of_the_prompt(plain_model):
    model = plain(plain_model(ending=NEVER_ENDS))
    answer = model.complete(QUESTION, WARM)
    assert (answer.paths, answer.rounds[0].summary) == ([], answer.summary)
    assert answer.prompt_token_ids == model.encode(QUESTION)
    assert len(answer.summary.token_ids) == len(answer.summary.logprobs) == 40
    assert answer.summary.text == model.decode(answer.summary.token_ids)
    assert answer.text == answer.summary.text.strip()
    usage = answer.usage
    assert (usage.prompt_tokens, usage.path_tokens, usage.summary_tokens) == (21, 0, 40)
    assert usage.total_tokens == 61
    assert answer.summary.finish_reason == "length"
    assert answer.params.paths == 1
    assert_same(model.complete(QUESTION, answer.params), answer, "native")
    likely = model.complete(QUESTION, ThinkingParams(seed=3, max_path_tokens=5, top_logprobs=3))
    assert [len(one) for one in likely.summary.top_logprobs] == [3] * 5


def test_a_prompt_of_one_token_is_exact(plain_model):
    folder = plain_model("llama")
    answer = plain(folder).complete("x", WARM)
    assert len(answer.prompt_token_ids) == 1
    assert distance(folder, answer) <= TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_company_long_prompts_and_little_memory_change_nothing(random_model, engine):
    folder = random_model("llama")
    questions = [QUESTION, "Why? " * 60, "x", QUESTION]
    calm = shared(folder, engine)
    alone = [calm.complete(question, WARM) for question in questions]
    small = thinker(folder, engine, kv_tokens=600, max_batch_tokens=16)
    thinking = ThinkingParams(paths=3, seed=1, max_path_tokens=30, max_summary_tokens=8)

    async def all_at_once() -> tuple[list[Answer], list[Answer]]:
        return await asyncio.gather(
            small.acomplete(questions * 3, WARM), small.athink(questions * 2, thinking)
        )

    with no_leak(small):
        together, thought = asyncio.run(all_at_once())
        assert small.load().preemptions, "memory should have run out"
    for answer, expected in zip(together, alone * 3, strict=True):
        assert_same(answer, expected, engine)
    for answer, expected in zip(thought, calm.think(questions * 2, thinking), strict=True):
        assert_same(answer, expected, engine)


def test_a_prompt_that_was_thought_about_is_found_in_memory(random_model):
    model = thinker(random_model("llama"))
    first = model.complete(QUESTION * 4, WARM)
    assert first.usage.cached_tokens == 0
    model.think(QUESTION * 4, ThinkingParams(paths=2, max_path_tokens=4))
    again = model.complete(QUESTION * 4, WARM)
    assert again.usage.cached_tokens == len(again.prompt_token_ids) - 1
    assert_same(again, first, "native")


def test_it_ends_at_an_end_token_a_stop_text_a_stop_token_or_the_limit(plain_model):
    ended = plain(plain_model(ending=4.0)).complete(QUESTION, ENDING).summary
    assert (ended.finish_reason, ended.token_ids.index(END)) == ("stop", len(ended.token_ids) - 1)
    endless = plain(plain_model(ending=NEVER_ENDS))
    free = endless.complete(QUESTION, WARM).summary
    assert free.finish_reason == "length"
    first = free.token_ids.index(free.token_ids[3])
    stopped = endless.complete(
        QUESTION,
        ThinkingParams(
            temperature=1.0, seed=3, max_path_tokens=40, stop_token_ids=(free.token_ids[3],)
        ),
    ).summary
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert stopped.finish_reason == "stop"
    text = next(c for c in free.text[5:] if c.isascii() and c.isprintable())
    stopped = endless.complete(
        QUESTION, ThinkingParams(temperature=1.0, seed=3, max_path_tokens=40, stop=(text,))
    ).summary
    assert stopped.text.count(text) == 1
    assert free.text.startswith(stopped.text)


def test_a_text_may_not_end_before_its_least_length(plain_model):
    folder = plain_model(ending=4.0)
    early = plain(folder).complete(QUESTION, ENDING).summary.token_ids
    least = dataclasses.replace(ENDING, min_path_tokens=len(early) + 30)
    later = plain(folder).complete(QUESTION, least).summary.token_ids
    assert later.index(END) == len(later) - 1 >= len(early) + 29


def test_a_continuation_stands_in_place_of_an_early_end(plain_model):
    folder = plain_model(ending=4.0)
    model = plain(folder)
    wait = model.encode("\nWait")
    early = model.complete(QUESTION, ENDING).summary.token_ids
    forced = dataclasses.replace(
        ENDING, min_path_tokens=90, max_path_tokens=90, continuation="\nWait"
    )
    answer = model.complete(QUESTION, forced)
    longer = answer.summary
    assert longer.token_ids[: len(early) + 4] == [*early[:-1], *wait]
    assert len(longer.token_ids) == 90
    assert longer.logprobs[len(early) - 1 : len(early) + 4] == [None] * 5
    assert distance(folder, answer) <= TOLERANCE
    # A limit may fall into the middle of it.
    middle = len(early) + 2
    cut = dataclasses.replace(forced, min_path_tokens=middle, max_path_tokens=middle)
    shorter = model.complete(QUESTION, cut).summary
    assert shorter.token_ids == [*early[:-1], *wait[:3]]
    assert shorter.finish_reason == "length"


def test_penalties_count_what_was_written_not_the_prompts_last_token(random_model):
    folder = random_model("llama")
    model = shared(folder)
    prompt = QUESTION + "???"
    params = ThinkingParams(
        temperature=0.0, max_path_tokens=30, frequency_penalty=1.5, presence_penalty=0.5
    )
    answer = model.complete(prompt, params)
    logits = logits_of(folder, answer)
    logits[:, sorted(model._codec.control.ids)] = -torch.inf
    ids = answer.summary.token_ids
    for k, token in enumerate(ids):
        for before in set(ids[:k]):
            logits[k, before] -= 1.5 * ids[:k].count(before) + 0.5
        assert token == int(logits[k].argmax())
    assert ids != model.complete(prompt, GREEDY).summary.token_ids[:30]
    repeated = ThinkingParams(temperature=0.0, max_path_tokens=30, repetition_penalty=3.0)
    answer = model.complete(prompt, repeated)
    logits, ids = logits_of(folder, answer), answer.summary.token_ids
    logits[:, sorted(model._codec.control.ids)] = -torch.inf
    for k, token in enumerate(ids):
        for before in {*answer.prompt_token_ids, *ids[:k]}:
            logit = logits[k, before]
            logits[k, before] = logit / 3 if logit > 0 else logit * 3
        assert token == int(logits[k].argmax())


def test_a_stream_tells_what_the_answer_says(plain_model):
    model = plain(plain_model())
    whole = model.complete(QUESTION, WARM)
    seen = list(model.stream_complete(QUESTION, WARM))
    tokens = [event for event in seen if isinstance(event, SummaryToken)]
    assert [event.token_id for event in tokens] == whole.summary.token_ids
    assert [event.logprob for event in tokens] == whole.summary.logprobs
    assert "".join(event.text for event in tokens) == whole.summary.text
    assert isinstance(seen[-1], Done)
    assert len(seen) == len(tokens) + 1

    async def first() -> None:
        async with aclosing(model.astream_complete(QUESTION, WARM)) as stream:
            async for event in stream:
                assert event == tokens[0]
                return

    with no_leak(model):
        asyncio.run(first())


def test_a_list_and_an_event_loop_give_the_same(plain_model):
    model = plain(plain_model())
    one, two = model.complete([QUESTION, "Why?"], WARM)
    assert_same(asyncio.run(model.acomplete(QUESTION, WARM)), one, "native")
    assert_same(model.complete("Why?", WARM), two, "native")


def test_a_completion_can_be_followed_up(random_model):
    folder = random_model("llama")
    model = shared(folder)
    first = model.complete(QUESTION, WARM)
    second = model.think(
        "And?", ThinkingParams(paths=3, temperature=1.0, seed=1, max_path_tokens=12), after=first
    )
    expected = reference_logprobs(reference(folder), second)
    assert largest_difference(second, expected) <= TOLERANCE


def test_a_plain_model_completes_chats_but_does_not_think(plain_model):
    folder = plain_model(chat_template=CHAT_TEMPLATE)
    with pytest.raises(CheckpointError, match="models prepare"):
        ParaThinker.from_pretrained(folder)
    model = plain(folder)
    assert model.max_paths == 0
    chat = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Why?"}]
    answer = model.complete(chat, WARM)
    assert distance(folder, answer) <= TOLERANCE
    for ask in (
        lambda: model.think(QUESTION),
        lambda: model.stream(QUESTION),
        lambda: model.summarize([QUESTION], [[[1]]]),
    ):
        with pytest.raises(CheckpointError, match="complete"):
            ask()


def test_some_control_tokens_only_are_still_damage(tmp_path):
    tokenizer = byte_tokenizer(EOS, "<think1>")
    build_model(vocab_size=258).save_pretrained(tmp_path)
    fast_tokenizer(tokenizer).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="</think1>"):
        ParaThinker.from_pretrained(tmp_path, plain=True)


def test_a_thinking_model_loaded_as_plain_still_thinks(tiny_random_model):
    model = thinker(tiny_random_model, plain=True)
    params = ThinkingParams(paths=2, seed=1, max_path_tokens=8, max_summary_tokens=4)
    assert_same(model.think("x", params), shared(tiny_random_model).think("x", params), "native")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"paths": 2}, "paths should be left at 8 for a completion"),
        ({"paths": "auto"}, "paths should be left"),
        ({"max_summary_tokens": 5}, "max_summary_tokens should be left at None"),
        ({"rounds": 2}, "rounds should be left at 1"),
        ({"path_prefix": "So"}, "path_prefix should be left"),
        ({"budget": 50}, "budget should be left"),
        ({"max_path_tokens": 5000}, "max_path_tokens 5000 does not fit"),
        ({"min_path_tokens": 5000}, "min_path_tokens 5000 does not fit"),
        ({"stop_token_ids": (5000,)}, "stop_token_ids should be below"),
    ],
)
def test_what_means_nothing_or_does_not_fit_is_refused(plain_model, params, message):
    with pytest.raises(UsageError, match=message):
        plain(plain_model()).complete(QUESTION, ThinkingParams(**params))


def test_questions_that_are_empty_or_too_long_are_refused(plain_model):
    model = plain(plain_model())
    with pytest.raises(UsageError, match="empty"):
        model.complete(" ")
    with pytest.raises(UsageError, match="too long: 4096 tokens"):
        model.complete("x" * 4096)
    filled = model.complete("x" * 4090, ThinkingParams(min_path_tokens=6))
    assert len(filled.summary.token_ids) == 6


def test_a_limit_left_open_gives_way_to_the_memory(plain_model):
    model = thinker(plain_model(ending=NEVER_ENDS), plain=True, kv_tokens=120)
    answer = model.complete(QUESTION, ThinkingParams(seed=1))
    assert answer.summary.finish_reason == "length"
    assert 50 < len(answer.summary.token_ids) < 120


def test_a_raw_prompt_is_the_text_without_the_chat_template(random_model):
    folder = random_model("llama", chat_template=CHAT_TEMPLATE)
    model = shared(folder)
    raw = RawPrompt("Once upon <|im_start|>")
    params = ThinkingParams(paths=2, seed=1, max_path_tokens=8, max_summary_tokens=4)
    ids = model.encode(raw.text)
    assert model.prompt_tokens(raw) == len(ids) == len(raw.text), "special names are plain text"
    for answer in (
        model.think(raw, params),
        model.think([raw], params)[0],
        asyncio.run(model.athink(raw, params)),
        model.complete(raw, WARM),
        [*model.stream(raw, params)][-1].answer,  # type: ignore[union-attr]
        [*model.stream_complete(raw, WARM)][-1].answer,  # type: ignore[union-attr]
    ):
        assert answer.prompt_token_ids == ids
    follow_up = model.think(raw, params, after=model.think("Why?", params))
    assert follow_up.prompt_token_ids[1:] == ids
    with pytest.raises(UsageError, match="empty"):
        model.complete(RawPrompt(""))
    with pytest.raises(UsageError, match="should be a text"):
        model.complete(RawPrompt(5))  # type: ignore[arg-type]


def test_a_raw_prompt_begins_as_the_tokenizer_begins_any_text(plain_model, tmp_path):
    folder = Path(shutil.copytree(plain_model(chat_template=CHAT_TEMPLATE), tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 256)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    answer = plain(folder).complete(RawPrompt("Once"), WARM)
    assert answer.prompt_token_ids == tokenizer.encode("Once").ids
    assert answer.prompt_token_ids[0] == END
    assert len(answer.prompt_token_ids) == 5
