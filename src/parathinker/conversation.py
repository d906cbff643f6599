"""What a request follows from: a question's prompt, and earlier turns as they lie in memory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from parathinker.answer import Answer
from parathinker.engine.request import PastRound, PastTurn
from parathinker.errors import UsageError
from parathinker.graph import Kind, ThoughtGraph
from parathinker.prompt import PromptCodec, RawPrompt

Question = str | RawPrompt | Sequence[Mapping[str, str]]
"""A text; or one that is the whole prompt; or the messages of a chat: mappings with ``role`` and
``content``."""


def one_or_many(question: object) -> tuple[Sequence[object], bool]:
    """A list of questions, and whether there was just one."""
    if isinstance(question, (str, RawPrompt)):
        return [question], True
    if not isinstance(question, (list, tuple)):
        raise UsageError(f"a question should be a text, messages, or a list of these: {question!r}")
    if question and all(isinstance(part, Mapping) for part in question):
        return [question], True
    return question, False


def prompt_of(question: object, codec: PromptCodec, after: Answer | None = None) -> list[int]:
    """Token ids of a question's prompt, or of what it adds to the turns before.

    Raises:
        UsageError: an empty question, or one of the wrong form.
    """
    # The last token of the answer before has not been through the model: it begins this turn.
    head = [] if after is None else [after.summary.token_ids[-1]]
    if isinstance(question, RawPrompt):
        text: object = question.text
        if not isinstance(text, str):
            raise UsageError(f"a raw prompt should be a text; got {text!r}")
        body = codec.encode_raw(text) if after is None else codec.encode_text(text)
    elif isinstance(question, str):
        if not question.strip():
            raise UsageError("the question is empty")
        first = codec.encode_question if after is None else codec.encode_follow_up
        body = first(question)
    elif after is not None:
        raise UsageError("a question that follows up an answer should be a text, not messages")
    else:
        body = codec.encode_chat(checked_messages(question))
    if not head and not body:
        raise UsageError("the question is empty: this model's tokenizer leaves nothing of it")
    return head + body


def turns_up_to(last: Answer) -> tuple[PastTurn, ...]:
    """The turns up to an answer, as they lie in memory: its last token is not there yet."""
    turns: list[PastTurn] = []
    answer: Answer | None = last
    while answer is not None:
        rounds = [
            PastRound(
                tuple((path.thought_id, tuple(path.token_ids)) for path in one.paths),
                tuple(one.summary.token_ids),
            )
            for one in answer.rounds
        ]
        rounds[-1] = dataclasses.replace(rounds[-1], summary=rounds[-1].summary[:-1])
        turns.append(PastTurn(tuple(answer.prompt_token_ids), tuple(rounds)))
        answer = answer.after
    return tuple(reversed(turns))


def context_of(history: Sequence[PastTurn]) -> tuple[ThoughtGraph, int]:
    """The graph of earlier turns, and the position at which the next one begins."""
    graph, head = ThoughtGraph(), -1
    for turn in history:
        head = graph.add(Kind.PROMPT, len(turn.prompt), () if head < 0 else (head,))
        for one in turn.rounds:
            paths = [
                graph.add(Kind.PATH, len(tokens), (head,), thought_id=i) for i, tokens in one.paths
            ]
            head = graph.add(Kind.SUMMARY, len(one.summary), (head, *paths))
    return graph, graph.end(head) if history else 0


def checked_messages(question: object) -> list[dict[str, str]]:
    """A chat, checked."""
    wanted = 'messages should be a list of {"role": ..., "content": ...}, all of them texts'
    if not isinstance(question, (list, tuple)) or not question:
        raise UsageError(f"a question should be a text or messages; got {question!r}")
    messages: list[dict[str, str]] = []
    for message in question:
        found: Any = dict(message) if isinstance(message, Mapping) else {}
        if not all(isinstance(found.get(name), str) for name in ("role", "content")):
            raise UsageError(f"{wanted}; got {message!r}")
        if not re.fullmatch(r"[A-Za-z_]+", found["role"]):
            raise UsageError(f"role should be a plain word; got {found['role']!r}")
        messages.append(found)
    if messages[-1]["role"] == "assistant":
        raise UsageError("the last message should not be the assistant's: it has nothing to answer")
    return messages
