"""Telling what a model thought from what it said, however its endpoint marks the two.

Endpoints differ: some parse the model's text and give the reasoning in a field of its own, others
hand on the text with the model's own marks in it. See :func:`split_reasoning`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FIELDS = ("reasoning", "reasoning_content")
"""Fields of a message that hold its reasoning: vLLM, OpenRouter; DeepSeek, SGLang, llama.cpp."""

OPEN, CLOSE = "<think>", "</think>"
_HARMONY_BEGINS = re.compile(r"\s*(?:<\|start\|>assistant\s*)?<\|channel\|>")
# What is left of them where an endpoint decodes without special tokens.
_HARMONY_BARE = re.compile(r"\s*analysis(.*?)assistantfinal(.*)", re.DOTALL)
# A message ends where its end is marked, where the next one begins, or where tokens ran out.
_HARMONY_MESSAGE = re.compile(
    r"<\|channel\|>\s*(?P<channel>\w+)(?P<header>(?:(?!<\|).)*)(?:<\|constrain\|>(?:(?!<\|).)*)?"
    r"<\|message\|>(?P<text>.*?)"
    r"(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)",
    re.DOTALL,
)


def split_reasoning(message: Mapping[str, Any]) -> tuple[str, str]:
    """Reasoning and answer of a chat completion's message, both without surrounding space.

    In this order:

    - a field ``reasoning`` or ``reasoning_content``: that, and the content as it is;
    - content in parts: those of type ``thinking`` or ``reasoning``, and those of type ``text``;
    - harmony channels: ``final`` is the answer, all others are reasoning; also where only the words
      are left of their marks, as in ``analysis…assistantfinal…``;
    - ``<think>…</think>``: what stands before ``</think>`` and what stands behind it. The opening
      tag may be missing, as chat templates put it into the prompt; without the closing one, all is
      reasoning, since tokens ran out in the middle of it;
    - otherwise all is answer.
    """
    content = message.get("content")
    thought = next((f for name in FIELDS if (f := message.get(name)) and isinstance(f, str)), "")
    if isinstance(content, list):
        thoughts = [thought, *(_part_text(p) for p in content if _is_thought(p))]
        said = [_part_text(p) for p in content if not _is_thought(p)]
        return "\n".join(filter(None, thoughts)).strip(), "".join(said).strip()
    text = content if isinstance(content, str) else ""
    if thought.strip():
        return thought.strip(), text.strip()
    if _HARMONY_BEGINS.match(text):
        return _split_harmony(text)
    bare = _HARMONY_BARE.fullmatch(text)
    return (bare[1].strip(), bare[2].strip()) if bare else split_think(text)


def split_think(text: str) -> tuple[str, str]:
    """What stands before ``</think>``, and what behind it; see :func:`split_reasoning`."""
    opened = text.lstrip().startswith(OPEN)
    before, close, after = text.partition(CLOSE)
    if not close and not opened:
        return "", text.strip()
    if opened:
        before = before.lstrip().removeprefix(OPEN)
    return before.strip(), after.strip()


def _split_harmony(text: str) -> tuple[str, str]:
    thoughts: list[str] = []
    said: list[str] = []
    for found in _HARMONY_MESSAGE.finditer(text):
        (said if found["channel"] == "final" else thoughts).append(found["text"].strip())
    return "\n\n".join(filter(None, thoughts)), "\n\n".join(filter(None, said))


def _is_thought(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning")


def _part_text(part: Any) -> str:
    """The text of a part, whose value may be parts again."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(_part_text(p) for p in part)
    if isinstance(part, Mapping):
        return _part_text(part.get(str(part.get("type"))) or part.get("text") or "")
    return ""
