"""Native parallel thinking for language models.

>>> from parathinker import ParaThinker, ThinkingParams
>>> model = ParaThinker.from_pretrained("tiny")
>>> answer = model.think("What is 48213 * 7689?", ThinkingParams(paths=8))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parathinker.answer import (
    Answer,
    Done,
    Path,
    PathEnd,
    PathToken,
    StreamEvent,
    Summary,
    SummaryToken,
    Timings,
    Usage,
)
from parathinker.errors import CheckpointError, MissingExtraError, ParaThinkerError, UsageError
from parathinker.graph import Kind, Segment, ThoughtGraph
from parathinker.params import ThinkingParams

if TYPE_CHECKING:
    from parathinker.parathinker import ParaThinker

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "CheckpointError",
    "Done",
    "Kind",
    "MissingExtraError",
    "ParaThinker",
    "ParaThinkerError",
    "Path",
    "PathEnd",
    "PathToken",
    "Segment",
    "StreamEvent",
    "Summary",
    "SummaryToken",
    "ThinkingParams",
    "ThoughtGraph",
    "Timings",
    "Usage",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the engine, and PyTorch with it, only when it is used: ``--help`` stays quick."""
    if name == "ParaThinker":
        from parathinker.parathinker import ParaThinker

        return ParaThinker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
