"""Answers as OpenAI's clients read them."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parathinker.answer import Answer, Path
from parathinker.serving.backend import ModelCard
from parathinker.serving.choice import Choice
from parathinker.serving.translation import Order

Json = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """What all chunks of a response, or the response as a whole, begin with."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, kind: str, model: str) -> Head:
        """For a response that begins now."""
        return cls(f"{prefix}-{secrets.token_hex(12)}", kind, int(time.time()), model)

    def fields(self) -> Json:
        """As JSON has them."""
        return dataclasses.asdict(self)


def chat_completion(head: Head, order: Order, choices: Sequence[Choice]) -> Json:
    """A finished chat completion."""
    return {
        **head.fields(),
        "choices": [
            {
                "index": choice.index,
                "message": {
                    "role": "assistant",
                    "content": choice.content,
                    "refusal": None,
                    **thinking_fields(choice, order.show),
                },
                "logprobs": logprobs(choice, order),
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ],
        "usage": usage(choices, order),
        "timings": timings(choices),
    }


def completion(head: Head, order: Order, choices: Sequence[Choice]) -> Json:
    """A finished text completion."""
    return {
        **head.fields(),
        "choices": [
            {
                "index": choice.index,
                "text": choice.content,
                "logprobs": None,
                "finish_reason": choice.finish_reason,
                **(thinking_fields(choice, order.show) if order.show != "none" else {}),
            }
            for choice in choices
        ],
        "usage": usage(choices, order),
        "timings": timings(choices),
    }


def thinking_fields(choice: Choice, show: str) -> Json:
    """What a message says of how its answer came about."""
    answer = _answer(choice)
    reasoning = None
    if show == "paths":
        reasoning = _reasoning(answer)
    elif show == "summary":
        reasoning = "\n\n".join(one.summary.text.strip() for one in answer.rounds[:-1]) or None
    fields: Json = {"reasoning": reasoning, "reasoning_content": reasoning}
    if show == "paths":
        fields["thinking"] = {
            "rounds": [
                {
                    "paths": [_path(path) for path in one.paths],
                    "summary": one.summary.text.strip(),
                }
                for one in answer.rounds
            ],
            "timings": dataclasses.asdict(answer.timings),
        }
    return fields


def logprobs(choice: Choice, order: Order) -> Json | None:
    """Of the answer's tokens, if they were asked for."""
    if order.top_logprobs is None:
        return None
    return {"content": choice.logprobs, "refusal": None}


def usage(choices: Sequence[Choice], order: Order) -> Json:
    """Tokens as the engine counts them; a prompt counts once, however many answers it gets."""
    answers = [_answer(choice) for choice in choices]
    each = len(answers) // order.prompts
    prompts = [answer.usage for answer in answers[::each]]
    prompt_tokens = sum(one.prompt_tokens for one in prompts)
    written = sum(answer.usage.path_tokens + answer.usage.summary_tokens for answer in answers)
    last = sum(len(answer.summary.token_ids) for answer in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
        "completion_tokens_details": {"reasoning_tokens": written - last},
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
    }


def timings(choices: Sequence[Choice]) -> Json:
    """Seconds of the answer; of several, those of the one that took longest."""
    slowest = max((_answer(choice).timings for choice in choices), key=lambda t: t.total_s)
    return dataclasses.asdict(slowest)


def model_entry(card: ModelCard, created: int) -> Json:
    """A model as ``/v1/models`` lists it."""
    return {
        "id": card.name,
        "object": "model",
        "created": created,
        "owned_by": "parathinker",
        "parathinker": {
            "max_paths": card.max_paths,
            "task": card.task,
            "chat": card.chat,
            "defaults": card.described_defaults,
            "limits": card.limits,
            "examples": list(card.examples),
        },
    }


def _reasoning(answer: Answer) -> str:
    """All paths' texts, each under its name; rounds under theirs if there are several."""
    parts = []
    for number, one in enumerate(answer.rounds, 1):
        if len(answer.rounds) > 1:
            parts.append(f"[round {number}]")
        parts += [f"[path {path.thought_id}]\n{path.text.strip()}" for path in one.paths]
        if number < len(answer.rounds):
            parts.append(f"[summary]\n{one.summary.text.strip()}")
    return "\n\n".join(parts)


def _path(path: Path) -> Json:
    return {
        "path": path.thought_id,
        "text": path.text,
        "tokens": len(path.token_ids),
        "finish_reason": path.finish_reason,
    }


def _answer(choice: Choice) -> Answer:
    assert choice.answer is not None
    return choice.answer
