"""Native parallel thinking for language models.

>>> from parathinker import ParaThinker, ThinkingParams
>>> model = ParaThinker.from_pretrained("tiny")
>>> answer = model.think("What is 48 * 76?", ThinkingParams(paths=8))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from parathinker.answer import (
    Answer,
    Done,
    Path,
    PathEnd,
    PathToken,
    Round,
    StreamEvent,
    Summary,
    SummaryToken,
    Timings,
    Usage,
)
from parathinker.errors import (
    CapacityError,
    CheckpointError,
    EngineError,
    MissingExtraError,
    NumericalError,
    ParaThinkerError,
    UsageError,
)
from parathinker.graph import Kind, Segment, ThoughtGraph
from parathinker.params import ThinkingParams

if TYPE_CHECKING:
    from parathinker.conversation import Question
    from parathinker.engine.kv_pool import KVUsage
    from parathinker.engine.protocol import EngineLoad
    from parathinker.parathinker import ParaThinker
    from parathinker.prompt import RawPrompt

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "CapacityError",
    "CheckpointError",
    "Done",
    "EngineError",
    "EngineLoad",
    "KVUsage",
    "Kind",
    "MissingExtraError",
    "NumericalError",
    "ParaThinker",
    "ParaThinkerError",
    "Path",
    "PathEnd",
    "PathToken",
    "Question",
    "RawPrompt",
    "Round",
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

_LAZY = {
    "EngineLoad": "parathinker.engine.protocol",
    "KVUsage": "parathinker.engine.kv_pool",
    "ParaThinker": "parathinker.parathinker",
    "Question": "parathinker.conversation",
    "RawPrompt": "parathinker.prompt",
}


def __getattr__(name: str) -> Any:
    """Import the engine, and PyTorch with it, only when it is used: ``--help`` stays quick."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
