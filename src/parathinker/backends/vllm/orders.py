"""What the asker's side tells the KV connector with each request, and hears back.

It travels in ``SamplingParams.extra_args`` and comes back in ``RequestOutput.kv_transfer_params``:
plain data, since vLLM sends both between processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parathinker.backends.vllm.layout import Piece

FIELD = "parathinker"


@dataclass(frozen=True)
class Order:
    """What is to become of one vLLM request's keys and values."""

    group: str
    """The question it belongs to."""
    keep: str | None = None
    """Store its keys and values under this name when it ends, for others of its group."""
    pieces: tuple[Piece, ...] = ()
    """What its first tokens' keys and values are put together from; natural prefill if empty."""
    extends: tuple[str, int] | None = None
    """A stored sequence that begins with as many of the same tokens: it is gone on from, as far as
    it was stored and if that is more than ``pieces``."""
    last: bool = False
    """When it ends, forget the group."""
    release: bool = False
    """Forget the group now; the request itself does nothing."""

    def to_params(self) -> dict[str, Any]:
        """As ``kv_transfer_params``."""
        fields = {
            "group": self.group,
            "keep": self.keep,
            "pieces": [[p.source, p.start, p.end] for p in self.pieces],
            "extends": None if self.extends is None else list(self.extends),
            "last": self.last,
            "release": self.release,
        }
        return {FIELD: fields}

    @classmethod
    def from_params(cls, params: dict[str, Any] | None) -> Order | None:
        """The order in a request's ``kv_transfer_params``, if it has one."""
        found = (params or {}).get(FIELD)
        if found is None:
            return None
        extends = found["extends"]
        return cls(
            found["group"],
            found["keep"],
            tuple(Piece(*piece) for piece in found["pieces"]),
            None if extends is None else (extends[0], extends[1]),
            found["last"],
            found["release"],
        )


LOST = {FIELD: {"lost": True}}
"""The answer to a request whose pieces were given up; its tokens mean nothing."""


def is_lost(params: dict[str, Any] | None) -> bool:
    """Whether a finished request's ``kv_transfer_params`` say that it came to nothing."""
    return bool((params or {}).get(FIELD, {}).get("lost"))
