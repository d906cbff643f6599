"""The released ParaThinker data, and data laid out like it, as rows of this package's schema.

``Leslie04/parathinker-math-6K`` is assumed to be what its authors' training script and others who
read it take it for; no copy was at hand when this was written:

- folders ``train`` and ``test``, each saved by ``datasets`` in Arrow files, ``data-*.arrow``;
- rows hold token ids, ``input_ids``, of the tokenizer of ParaThinker-1.5B, which has to lie beside
  the data (``tokenizer.json``) or be named;
- the ids decode to a chat prompt whose question is followed by an instruction that begins ``You
  FIRST think``; then ``<think1> … </think1>`` to at most ``<think8>``, of which some are cut off in
  the middle (these are read, not learned); then ``<summary> … \\boxed{…} … </summary>``; and
  ``<vllm_pad>`` anywhere.

Two more layouts are told by their columns: the same as text, in any column, with or without a
column for the question; and a column with a list of paths beside one with the question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from parathinker.errors import UsageError
from parathinker.tokens import PAD, SUMMARY_CLOSE, SUMMARY_OPEN

RELEASED = "parathinker-math-6K"
TOKENIZER = "tokenizer.json"

QUESTIONS = ("question", "problem", "prompt")
PATHS = ("paths", "reasoning_paths", "reasonings", "thoughts", "cots")
ANSWERS = ("answer", "final_answer")
SUMMARIES = ("summary", "solution")

_OPEN = re.compile(r"<think\s*(\d+)>")
_CONTROL = re.compile(rf"</?think\s*\d*>|{SUMMARY_OPEN}|{SUMMARY_CLOSE}|{PAD}")
_BAR = "\uff5c"  # DeepSeek's special tokens have fullwidth bars
_USER = re.compile(rf"<{_BAR}User{_BAR}>|<\|im_start\|>user\n")
_USER_END = re.compile(rf"<{_BAR}Assistant{_BAR}>|<\|im_end\|>|\s+You FIRST think\b")
# By name: |x|<|y|> is mathematics.
_MARKUP = re.compile(rf"<{_BAR}[^{_BAR}<>]+{_BAR}>|<\|(?:im_start|im_end|endoftext|eot_id)\|>")

Decode = Callable[[list[int]], str]


def from_released(
    row: Mapping[str, Any], where: str, decoder: Callable[[], Decode]
) -> dict[str, Any] | None:
    """A row of the schema from one of the layouts above; None if it is of none of them.

    Args:
        row: columns and values.
        where: the row's place, for errors.
        decoder: gives the way from token ids to text; only called for rows of ids.

    Raises:
        UsageError: a text in which no path opens.
    """
    if isinstance(row.get("input_ids"), list):
        found = _from_text(decoder()(row["input_ids"]), row, where)
        return {**found, "source": found["source"] or RELEASED}
    for name in PATHS:
        texts = row.get(name)
        if isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts):
            return _filled([_plain(text) for text in texts], None, row)
    for value in row.values():
        if isinstance(value, str) and _OPEN.search(value):
            return _from_text(value, row, where)
    return None


def find_decoder(file: Path, tokenizer: str | Path | None) -> Decode:
    """How the token ids of a file become text.

    Args:
        file: where the ids are; the tokenizer may lie beside it or up to two folders above.
        tokenizer: a folder with ``tokenizer.json``, or that file, for when none lies there.

    Raises:
        UsageError: there is none.
    """
    from tokenizers import Tokenizer

    beside = list(file.resolve().parents)[:3]
    for place in beside if tokenizer is None else [*beside, Path(tokenizer)]:
        found = place / TOKENIZER if place.is_dir() else place
        if found.is_file():
            loaded = Tokenizer.from_file(str(found))
            return lambda ids: str(loaded.decode(ids, skip_special_tokens=False))
    named = f", and {tokenizer} has none" if tokenizer is not None else "; name one (--tokenizer)"
    raise UsageError(
        f"{file} holds token ids, which take the tokenizer they were made with ({TOKENIZER} of "
        f"ParaThinker-1.5B for the released data), and none lies beside it{named}"
    )


def _from_text(text: str, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    text = text.replace(PAD, "")
    opens = list(_OPEN.finditer(text))
    if not opens:
        raise UsageError(
            f"{where}: no path opens in it: there is no <think1>. Were its token ids made with "
            "another tokenizer?"
        )
    # The instruction in the prompt names the summary's tokens too: only what follows paths counts.
    last, _, rest = text[opens[-1].end() :].partition(SUMMARY_OPEN)
    bodies = [text[a.end() : b.start()] for a, b in pairwise(opens)]
    paths = []
    for opened, body in zip(opens, [*bodies, last], strict=True):
        closed = re.search(rf"</think\s*{opened[1]}>", body)
        path = _plain(body[: closed.start()] if closed else body)
        # What was cut off would teach to end in the middle.
        paths.append({"text": path, "learn": closed is not None})
    summary = rest.partition(SUMMARY_CLOSE)[0] if rest else None
    return _filled(paths, summary, row, text[: opens[0].start()])


def _filled(
    paths: Sequence[str | dict[str, Any]],
    summary: str | None,
    row: Mapping[str, Any],
    prompt: str = "",
) -> dict[str, Any]:
    if summary is None:
        summary = _first(row, SUMMARIES)
    summary = None if summary is None else _plain(summary)
    answer = _first(row, ANSWERS)
    if answer is None and summary is not None and "\\boxed" in summary:
        from parathinker.scoring import extract_answer

        answer = extract_answer(summary)
    question = _first(row, QUESTIONS)
    return {
        "question": _question(prompt if question is None or _OPEN.search(question) else question),
        "paths": list(paths),
        "summary": summary,
        "answer": answer,
        "id": row.get("id") if isinstance(row.get("id"), str) else None,
        "source": _first(row, ("source",)),
        "split": _first(row, ("split",)),
    }


def _question(prompt: str) -> str:
    """What a user asked, out of a chat prompt and the instruction that follows it."""
    said = list(_USER.finditer(prompt))
    if said:
        prompt = prompt[said[-1].end() :]
    return _plain(_USER_END.split(prompt, maxsplit=1)[0])


def _plain(text: str) -> str:
    """Text without control tokens and chat markup."""
    return _MARKUP.sub("", _CONTROL.sub("", text)).strip()


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)
