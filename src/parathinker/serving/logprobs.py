"""Log-probabilities of the answer's tokens, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from parathinker.answer import SummaryToken

TokenLogprob = dict[str, Any]
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LEAST = -9999.0
"""What OpenAI reports for tokens that are all but impossible; JSON has no minus infinity."""


class LogprobWriter:
    """Turns tokens into entries of ``logprobs.content``.

    Only tokens that the model chose and that a reader sees have one: not a forced beginning, not
    the closing token.

    Args:
        decode: text of token ids.
        top: how many likeliest tokens to report beside each.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], top: int) -> None:
        self._decode, self._top = decode, top
        self._before: list[int] = []

    def write(self, event: SummaryToken) -> TokenLogprob | None:
        """The entry of a token; None if it has none."""
        before, self._before = self._before, [event.token_id]
        if event.logprob is None:
            return None
        entry = self._entry(before, event.token_id, event.logprob)
        if not entry["token"]:
            return None
        likeliest = event.top_logprobs[: self._top]
        entry["top_logprobs"] = [self._entry(before, token, value) for token, value in likeliest]
        return entry

    def _entry(self, before: list[int], token: int, logprob: float) -> TokenLogprob:
        text = self._text(before, token)
        # Half a character has no text of its own, and so no bytes that are known here.
        whole = _REPLACEMENT not in text
        return {
            "token": text,
            "logprob": max(logprob, _LEAST),
            "bytes": list(text.encode()) if whole else None,
        }

    def _text(self, before: list[int], token: int) -> str:
        """A token's text where it stands: some decoders drop a space at a text's beginning."""
        lead, both = self._decode(before), self._decode([*before, token])
        return both[len(lead) :] if both.startswith(lead) else self._decode([token])
