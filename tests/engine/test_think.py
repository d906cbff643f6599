"""What ``think`` and ``stream`` promise about an answer, whatever the model says."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest

from parathinker import (
    Answer,
    Done,
    ParaThinker,
    PathEnd,
    PathToken,
    SummaryToken,
    ThinkingParams,
    UsageError,
)
from parathinker.params import TERMINATIONS
from parathinker.prompt import PromptCodec
from parathinker.stopping import stop_check

load = cache(ParaThinker.from_pretrained)
codec = cache(PromptCodec.from_folder)

QUESTION = "What is 6 * 7?"
ASKED = ThinkingParams(paths=8, temperature=1.0, seed=1, max_path_tokens=30, max_summary_tokens=12)


def ask(folder: Path, question: str = QUESTION, **changes: object) -> Answer:
    return load(folder).think(question, dataclasses.replace(ASKED, **changes))


def same(a: Answer, b: Answer) -> bool:
    return (
        [(p.token_ids, p.finish_reason) for p in a.paths]
        == [(p.token_ids, p.finish_reason) for p in b.paths]
        and a.summary.token_ids == b.summary.token_ids
        and a.text == b.text
    )


def check_promises(folder: Path, answer: Answer) -> None:
    """All that holds for every answer."""
    control, params = codec(folder).control, answer.params
    prefix = codec(folder).encode_text(params.summary_prefix or "")
    for number, path in enumerate(answer.paths, 1):
        assert path.thought_id == number
        assert path.token_ids[0] == control.opens[number - 1]
        assert path.token_ids[-1] == control.closes[number - 1]
        assert not control.ids & set(path.token_ids[1:-1])
        assert 2 <= len(path.token_ids) <= 1 + params.max_path_tokens
        assert path.finish_reason in ("stop", "length", "cut")
        assert len(path.logprobs) == len(path.token_ids)
        forced = [i for i, logprob in enumerate(path.logprobs) if logprob is None]
        last = len(path.token_ids) - 1
        if path.finish_reason == "stop":
            assert forced in ([0], [0, last])
        else:
            assert forced == [0, last]
        if path.finish_reason == "length" and params.budget is None:
            assert last == params.max_path_tokens
    summary = answer.summary
    opening = [control.summary_open, *prefix]
    assert summary.token_ids[: len(opening)] == opening
    written = summary.token_ids[len(opening) :]
    assert 1 <= len(written) <= params.max_summary_tokens
    assert not (control.ids - {control.summary_close}) & set(written)
    assert control.summary_close not in written[:-1]
    assert summary.logprobs[: len(opening)] == [None] * len(opening)
    assert None not in summary.logprobs[len(opening) :]
    assert all(x <= 0 for s in (*answer.paths, summary) for x in s.logprobs if x is not None)
    for segment in (*answer.paths, summary):
        assert segment.text == codec(folder).decode(segment.token_ids)
        assert not any(name in segment.text for name in ("<think", "</think", "summary>"))
    assert answer.text == summary.text.strip()
    usage = answer.usage
    assert usage.prompt_tokens == len(answer.prompt_token_ids)
    assert usage.path_tokens == sum(len(path.token_ids) for path in answer.paths)
    assert usage.summary_tokens == len(summary.token_ids)
    assert usage.total_tokens == usage.prompt_tokens + usage.path_tokens + usage.summary_tokens
    t = answer.timings
    assert min(dataclasses.asdict(t).values()) >= 0
    assert t.total_s == pytest.approx(t.prefill_s + t.think_s + t.summary_s)
    assert t.summary_ttft_s <= t.summary_s


@pytest.mark.parametrize("paths", [1, 2, 7, 8])
@pytest.mark.parametrize("termination", TERMINATIONS)
def test_every_answer_keeps_its_promises(tiny_random_model, termination, paths):
    for seed in range(6):
        answer = ask(
            tiny_random_model,
            paths=paths,
            termination=termination,
            seed=seed,
            summary_prefix="Prefix é:" if seed % 2 else None,
        )
        check_promises(tiny_random_model, answer)


def test_first_finish_cuts_the_other_paths_where_the_first_one_closed(tiny_random_model):
    answers = [ask(tiny_random_model, seed=s) for s in range(8)]
    for answer in answers:
        reasons = [path.finish_reason for path in answer.paths]
        assert len({len(path.token_ids) for path in answer.paths}) == 1
        assert reasons.count("stop") >= 1 or set(reasons) == {"length"}
    assert any("cut" in [p.finish_reason for p in a.paths] for a in answers)


@pytest.mark.parametrize(("paths", "half"), [(1, 1), (2, 1), (5, 3), (8, 4)])
def test_half_finish_waits_for_half_of_the_paths_rounded_up(tiny_random_model, paths, half):
    for seed in range(6):
        answer = ask(tiny_random_model, paths=paths, termination="half-finish", seed=seed)
        whole = ask(tiny_random_model, paths=paths, termination="last-finish", seed=seed)
        ends = sorted(len(path.token_ids) for path in whole.paths)
        for path, alone in zip(answer.paths, whole.paths, strict=True):
            if len(alone.token_ids) <= ends[half - 1]:
                assert path == alone
            else:
                assert path.finish_reason == "cut"
                assert len(path.token_ids) == ends[half - 1]
                assert path.token_ids[:-1] == alone.token_ids[: ends[half - 1] - 1]


def test_last_finish_lets_every_path_end_by_itself(tiny_random_model):
    answers = [ask(tiny_random_model, termination="last-finish", seed=s) for s in range(4)]
    reasons = {path.finish_reason for answer in answers for path in answer.paths}
    assert reasons == {"stop", "length"}
    assert all(len({len(path.token_ids) for path in a.paths}) > 2 for a in answers)


@pytest.mark.parametrize("tokens", [1, 2])
def test_paths_of_one_and_two_tokens_are_closed(tiny_random_model, tokens):
    for termination in TERMINATIONS:
        answer = ask(tiny_random_model, max_path_tokens=tokens, termination=termination)
        check_promises(tiny_random_model, answer)
        assert all(len(path.token_ids) <= tokens + 1 for path in answer.paths)


def test_a_summary_of_one_token_ends_for_its_length(tiny_random_model):
    answer = ask(tiny_random_model, max_summary_tokens=1, seed=3)
    check_promises(tiny_random_model, answer)
    assert len(answer.summary.token_ids) == 2
    assert answer.summary.finish_reason == "length"


@pytest.mark.parametrize("budget", [8, 9, 15, 16, 17, 31, 60, 100, 10_000])
@pytest.mark.parametrize("termination", TERMINATIONS)
def test_all_paths_together_stay_within_the_budget(tiny_random_model, termination, budget):
    for seed in range(3):
        answer = ask(tiny_random_model, termination=termination, budget=budget, seed=seed)
        check_promises(tiny_random_model, answer)
        spent = sum(len(path.token_ids) - 1 for path in answer.paths)
        assert spent <= budget
        free = ask(tiny_random_model, termination=termination, seed=seed)
        wanted = sum(len(path.token_ids) - 1 for path in free.paths)
        if wanted <= budget:
            assert same(answer, free)
        else:
            # What is left over would not have closed the paths that were still growing.
            assert spent + sum(path.finish_reason == "length" for path in answer.paths) > budget


def test_a_stop_text_ends_a_path(tiny_random_model):
    free = ask(tiny_random_model, termination="last-finish")
    longest = max(free.paths, key=lambda path: len(path.token_ids))
    seen = [c for c in longest.text if c not in "\ufffd"]
    stop = seen[len(seen) // 2]
    answer = ask(tiny_random_model, termination="last-finish", stop=(stop,))
    check_promises(tiny_random_model, answer)
    path = answer.paths[longest.thought_id - 1]
    assert path.finish_reason == "stop"
    assert path.logprobs[-1] is None
    assert path.text.endswith(stop)
    assert path.text.count(stop) == 1
    assert len(path.token_ids) < len(longest.token_ids)


def test_a_stop_text_that_came_too_early_does_not_count_later(tiny_random_model):
    held = {"termination": "last-finish", "min_path_tokens": 10}
    free = ask(tiny_random_model, **held)
    decode, tried = codec(tiny_random_model).decode, 0
    for number, path in enumerate(free.paths):
        early, late = decode(path.token_ids[1:8]), decode(path.token_ids[8:])
        for stop in set(early) - set(late) - {"\ufffd"}:
            again = ask(tiny_random_model, **held, stop=(stop,)).paths[number]
            assert again.token_ids == path.token_ids
            tried += 1
    assert tried > 2


def test_a_stop_text_ends_the_summary(tiny_random_model):
    model, stopped = load(tiny_random_model), 0
    for seed in range(16):
        params = dataclasses.replace(ASKED, seed=seed)
        [free] = model.summarize([QUESTION], [[[5, 6], [7]]], params)
        readable = [c for c in free.summary.text if c != "\ufffd"]
        if len(readable) > 1:
            stop = readable[len(readable) // 2]
            params = dataclasses.replace(params, stop=stop)
            [answer] = model.summarize([QUESTION], [[[5, 6], [7]]], params)
            ids = answer.summary.token_ids
            assert answer.summary.finish_reason == "stop"
            assert answer.summary.text.endswith(stop)
            assert answer.summary.text.count(stop) == 1
            assert ids == free.summary.token_ids[: len(ids)]
            stopped += 1
    assert stopped > 2


def test_a_stop_text_of_many_bytes_is_found(tiny_random_model):
    stop = "日本語🙂" * 12  # 156 tokens of one byte each
    check = stop_check((stop,), load(tiny_random_model)._codec)
    ids = codec(tiny_random_model).encode_text("So: " + stop)
    assert check(ids)
    assert not check(ids[:-1])


def test_a_stop_text_in_the_summary_prefix_does_not_end_the_summary(tiny_random_model):
    answer = ask(tiny_random_model, summary_prefix="STOP", stop=("STOP",), seed=2)
    free = ask(tiny_random_model, summary_prefix="STOP", seed=2)
    assert same(answer, free)


def test_the_end_of_sequence_token_ends_a_path_and_the_summary(random_model):
    folder = random_model("llama", tied=False, closing=0.0, seed=11)
    end = codec(folder).tokenizer.token_to_id("<|endoftext|>")
    answers = [ask(folder, termination="last-finish", seed=s, temperature=3.0) for s in range(12)]
    ended = [p for a in answers for p in a.paths if end in p.token_ids]
    assert ended, "no path sampled the end-of-sequence token; the test sees nothing"
    for path in ended:
        assert path.token_ids.index(end) == len(path.token_ids) - 2
        assert path.finish_reason == "stop"
        assert path.logprobs[-1] is None or path.logprobs[-1] <= 0
    summaries = [a.summary for a in answers if end in a.summary.token_ids]
    assert summaries
    for summary in summaries:
        assert summary.token_ids[-1] == end
        assert summary.finish_reason == "stop"
    for answer in answers:
        check_promises(folder, answer)


def test_the_summary_prefix_is_forced_and_part_of_the_text(tiny_random_model):
    answer = ask(tiny_random_model, summary_prefix="Therefore: <summary>")
    assert answer.summary.text.startswith("Therefore: <summary>")
    assert answer.usage.summary_tokens > len("Therefore: <summary>")


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(tiny_random_model):
    assert same(ask(tiny_random_model, seed=5), ask(tiny_random_model, seed=5))
    others = [ask(tiny_random_model, seed=s) for s in range(6, 10)]
    assert not any(same(ask(tiny_random_model, seed=5), other) for other in others)


def test_an_answer_can_be_repeated_with_its_own_parameters(tiny_random_model):
    model = load(tiny_random_model)
    for _ in range(3):
        answer = model.think(QUESTION, ThinkingParams(paths=4, max_path_tokens=20))
        assert answer.params.seed is not None
        assert answer.params.max_summary_tokens is not None
        assert same(answer, model.think(QUESTION, answer.params))


def test_paths_of_one_answer_differ_in_their_randomness(random_model):
    # Without thought embeddings nothing but the opening token and the seed tells paths apart.
    answer = ask(random_model("llama", thought_std=None), termination="last-finish")
    assert len({tuple(path.token_ids[1:-1]) for path in answer.paths}) > 4


@pytest.mark.parametrize("termination", TERMINATIONS)
def test_a_batch_gives_each_question_the_answer_it_gets_alone(tiny_random_model, termination):
    questions = ["Why?", QUESTION, "x", "A rather longer question, with more in it. " * 4, QUESTION]
    params = dataclasses.replace(ASKED, termination=termination, seed=9)
    together = load(tiny_random_model).think(questions, params)
    alone = [load(tiny_random_model).think(question, params) for question in questions]
    assert len({a.text for a in alone}) > 2
    for one, other in zip(together, alone, strict=True):
        check_promises(tiny_random_model, one)
        assert same(one, other)


def test_more_requests_than_rows_are_worked_off_in_order(tiny_random_model):
    questions = [f"Question {i}?" for i in range(20)]  # 160 rows; 128 run at once
    params = dataclasses.replace(ASKED, max_path_tokens=6, max_summary_tokens=4)
    together = load(tiny_random_model).think(questions, params)
    for question, answer in zip(questions, together, strict=True):
        assert answer.prompt_token_ids == codec(tiny_random_model).encode_question(question)
    assert same(together[19], load(tiny_random_model).think(questions[19], params))


def test_no_questions_give_no_answers(tiny_random_model):
    assert load(tiny_random_model).think([]) == []


@pytest.mark.parametrize("termination", TERMINATIONS)
def test_a_stream_tells_the_same_story_as_the_answer(tiny_random_model, termination):
    for seed in range(4):
        params = dataclasses.replace(
            ASKED, seed=seed, termination=termination, summary_prefix="Sö:", max_summary_tokens=5
        )
        events = list(load(tiny_random_model).stream(QUESTION, params))
        assert isinstance(events[-1], Done)
        answer = events[-1].answer
        assert same(answer, load(tiny_random_model).think(QUESTION, params))
        for path in answer.paths:
            tokens = [
                e for e in events if isinstance(e, PathToken) and e.thought_id == path.thought_id
            ]
            assert [e.token_id for e in tokens] == path.token_ids
            assert [e.logprob for e in tokens] == path.logprobs
            assert "".join(e.text for e in tokens) == path.text
            ends = [e for e in events if isinstance(e, PathEnd) and e.thought_id == path.thought_id]
            assert ends == [PathEnd(path.thought_id, path.finish_reason)]
            assert events.index(ends[0]) > events.index(tokens[-1])
        summary = [e for e in events if isinstance(e, SummaryToken)]
        assert [e.token_id for e in summary] == answer.summary.token_ids
        assert [e.logprob for e in summary] == answer.summary.logprobs
        assert "".join(e.text for e in summary) == answer.summary.text
        first = events.index(summary[0])
        assert not any(isinstance(e, PathToken | PathEnd) for e in events[first:])
        assert all(isinstance(e, PathToken | PathEnd) for e in events[:first])


def test_a_stream_can_be_left_in_the_middle(tiny_random_model):
    model = load(tiny_random_model)
    stream = model.stream(QUESTION, ASKED)
    for _ in range(10):
        next(stream)
    stream.close()
    assert same(model.think(QUESTION, ASKED), model.think(QUESTION, ASKED))


def test_logprobs_can_be_left_out_without_changing_the_answer(tiny_random_model):
    without = ask(tiny_random_model, logprobs=False)
    assert same(without, ask(tiny_random_model))
    assert {x for s in (*without.paths, without.summary) for x in s.logprobs} == {None}


def test_summarizing_given_paths_equals_having_thought_them(tiny_random_model):
    model = load(tiny_random_model)
    for seed in range(3):
        params = dataclasses.replace(ASKED, termination="last-finish", seed=seed)
        thought = model.think(QUESTION, params)
        [given] = model.summarize([QUESTION], [[path.token_ids for path in thought.paths]], params)
        assert [p.token_ids for p in given.paths] == [p.token_ids for p in thought.paths]
        assert given.summary.token_ids == thought.summary.token_ids
        assert given.summary.logprobs == pytest.approx(thought.summary.logprobs, abs=1e-4)


def test_given_paths_are_taken_whole_whatever_they_say(tiny_random_model):
    model = load(tiny_random_model)
    end = codec(tiny_random_model).tokenizer.token_to_id("<|endoftext|>")
    paths = [[5, end, 6, 7], [], [9, 9, 9]]
    params = dataclasses.replace(ASKED, stop=(codec(tiny_random_model).decode([9]),))
    [answer] = model.summarize([QUESTION], [paths], params)
    assert [path.token_ids[1:-1] for path in answer.paths] == paths


@pytest.mark.parametrize("token", [-1, 10**6])
def test_given_paths_with_unknown_token_ids_are_refused(tiny_random_model, token):
    with pytest.raises(UsageError, match=rf"token ids of paths should be .* got {token}"):
        load(tiny_random_model).summarize([QUESTION], [[[5, token]]], ASKED)


@pytest.mark.parametrize("question", ["", "  \n\t ", None, 5, ["nested"], "lone \ud800 surrogate"])
def test_a_question_that_is_no_text_is_refused(tiny_random_model, question):
    with pytest.raises(UsageError, match=r"question|messages|Unicode"):
        load(tiny_random_model).think([question])


def test_a_question_of_another_type_is_refused(tiny_random_model):
    with pytest.raises(UsageError, match="question"):
        load(tiny_random_model).think(5)


def test_more_paths_than_the_model_knows_are_refused_with_advice(tiny_random_model):
    with pytest.raises(UsageError, match=r"paths should be at most 8 .* got 9.*max_paths"):
        ask(tiny_random_model, paths=9)


def test_a_question_longer_than_the_context_is_refused(random_model):
    folder = random_model("llama", max_position_embeddings=64)
    with pytest.raises(UsageError, match=r"too long: 80 tokens.*64"):
        load(folder).think("x" * 80, ThinkingParams())
    with pytest.raises(UsageError, match=r"max_path_tokens 40.*do not fit"):
        ask(folder, max_path_tokens=40, max_summary_tokens=12)


def test_an_answer_may_fill_the_context_to_its_last_position(random_model):
    folder = random_model("llama", closing=0.0, max_position_embeddings=64)
    for length in (1, 30, 59, 60):
        answer = load(folder).think("x" * length, ThinkingParams(paths=2, temperature=1.0, seed=0))
        longest = max(len(path.token_ids) for path in answer.paths)
        assert length + longest + len(answer.summary.token_ids) <= 64
    room = 64 - 20 - 2
    answer = load(folder).think(
        "x" * 20,
        ThinkingParams(
            paths=2, temperature=1, seed=0, max_path_tokens=room - 5, max_summary_tokens=5
        ),
    )
    check_promises(folder, answer)
