"""Errors meant to be read by people: what was asked, what is wrong with it, what would work."""

from __future__ import annotations


class ParaThinkerError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(ParaThinkerError, ValueError):
    """The caller asked for something that cannot be: a bad parameter, question or recipe."""


class CapacityError(UsageError):
    """A request that the engine's memory could never hold."""


class EngineError(ParaThinkerError):
    """A request failed on its way through the engine, which goes on with the others."""


class NumericalError(EngineError):
    """The model computed NaN or infinity where a request needed numbers."""


class CheckpointError(ParaThinkerError):
    """A model folder is missing, damaged, or of a kind that is not supported."""


class MissingExtraError(ParaThinkerError, ImportError):
    """A feature needs packages of an optional extra that are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the optional '{extra}' extra, which is not installed. "
            f"Install it with: pip install 'parathinker[{extra}]'"
        )
