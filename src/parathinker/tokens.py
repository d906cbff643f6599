"""Control tokens: their names and order, adding them to a tokenizer, finding them again by name.

The order is that of the released ParaThinker checkpoints: ``<think1> </think1> … <thinkP> </thinkP>
<summary> </summary> <vllm_pad>``. Ids are never written down anywhere: they are looked up by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parathinker.errors import CheckpointError, UsageError

SUMMARY_OPEN = "<summary>"
SUMMARY_CLOSE = "</summary>"
PAD = "<vllm_pad>"
RELEASED_MAX_PATHS = 8
_PATH_TOKEN = re.compile(r"</?think[1-9]\d*>")


def think_open(thought_id: int) -> str:
    """Name of the token that opens path ``thought_id`` (1-based)."""
    return f"<think{thought_id}>"


def think_close(thought_id: int) -> str:
    """Name of the token that closes path ``thought_id`` (1-based)."""
    return f"</think{thought_id}>"


def control_token_names(max_paths: int) -> list[str]:
    """Names of all control tokens for up to ``max_paths`` paths, in the released order."""
    if max_paths < 1:
        raise UsageError(f"max_paths must be 1 or more, got {max_paths}")
    paths = [name(i) for i in range(1, max_paths + 1) for name in (think_open, think_close)]
    return [*paths, SUMMARY_OPEN, SUMMARY_CLOSE, PAD]


def is_control_token(name: str) -> bool:
    """Whether ``name`` is one of ours, for any number of paths."""
    return name in (SUMMARY_OPEN, SUMMARY_CLOSE, PAD) or _PATH_TOKEN.fullmatch(name) is not None


@dataclass(frozen=True)
class ControlTokens:
    """Ids of a vocabulary's control tokens. ``opens[i - 1]`` and ``closes[i - 1]`` are path i's."""

    opens: tuple[int, ...]
    closes: tuple[int, ...]
    summary_open: int
    summary_close: int
    pad: int | None

    @property
    def max_paths(self) -> int:
        """P_max: how many paths the vocabulary can tell apart."""
        return len(self.opens)

    @property
    def ids(self) -> frozenset[int]:
        """All of them."""
        pad = () if self.pad is None else (self.pad,)
        return frozenset((*self.opens, *self.closes, self.summary_open, self.summary_close, *pad))

    @classmethod
    def find(cls, vocabulary: Mapping[str, int], where: str = "this tokenizer") -> ControlTokens:
        """Look the control tokens up by name.

        Raises:
            CheckpointError: none or only some of them are there; the message says how to add them.
        """
        opens: list[int] = []
        closes: list[int] = []
        while think_open(len(opens) + 1) in vocabulary:
            number = len(opens) + 1
            if think_close(number) not in vocabulary:
                raise CheckpointError(
                    f"{where} has {think_open(number)} but not {think_close(number)}"
                )
            opens.append(vocabulary[think_open(number)])
            closes.append(vocabulary[think_close(number)])
        absent = [name for name in (SUMMARY_OPEN, SUMMARY_CLOSE) if name not in vocabulary]
        if not opens:
            absent.insert(0, think_open(1))
        if absent:
            raise CheckpointError(
                f"{where} has no control token {', '.join(absent)}, so this model cannot think in "
                "parallel yet. Add the tokens to a copy of the model with: "
                "parathinker models prepare FOLDER NEW_FOLDER (it then still has to be trained: "
                "parathinker train)"
            )
        return cls(
            tuple(opens),
            tuple(closes),
            vocabulary[SUMMARY_OPEN],
            vocabulary[SUMMARY_CLOSE],
            vocabulary.get(PAD),
        )


def add_control_tokens(tokenizer: Any, max_paths: int = RELEASED_MAX_PATHS) -> ControlTokens:
    """Append the control tokens that a tokenizer lacks, as special tokens, and return their ids.

    Args:
        tokenizer: a transformers tokenizer or a ``tokenizers.Tokenizer``; changed in place. The
            model's embedding has to be resized to it by the caller.
        max_paths: P_max, the largest number of paths to tell apart.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    fresh = [
        AddedToken(name, special=True, normalized=False)
        for name in control_token_names(max_paths)
        if name not in known
    ]
    if hasattr(tokenizer, "backend_tokenizer"):
        tokenizer.add_tokens(fresh, special_tokens=True)
    else:
        tokenizer.add_special_tokens(fresh)
    return ControlTokens.find(tokenizer.get_vocab())
