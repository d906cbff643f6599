"""How a vLLM request's tokens are chosen, as the asker tells the sampler in vLLM's workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from parathinker.backends.vllm.orders import FIELD


@dataclass(frozen=True)
class RowParams:
    """Plain data in ``SamplingParams.extra_args``."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: str
    """What the generator of its segment is seeded with."""
    drawn: int
    """Numbers that the segment has had of its generator already."""
    banned: list[int]
    early: int
    """For so many tokens, ``early_banned`` holds instead."""
    early_banned: list[int]
    penalties: list[float] = field(default_factory=list)
    """As ``engine.request.Penalties``; empty if there are none."""
    prompts: list[int] = field(default_factory=list)
    """With penalties: tokens of the prompts."""
    written: list[int] = field(default_factory=list)
    """With penalties: tokens that the segment has already."""

    def to_args(self) -> dict[str, Any]:
        """As ``extra_args``."""
        return {FIELD: asdict(self)}

    @classmethod
    def from_args(cls, args: dict[str, Any] | None) -> RowParams | None:
        """Those in a request's ``extra_args``, if there are any."""
        found = (args or {}).get(FIELD)
        return None if found is None else cls(**found)
