"""What the server needs of an engine, and what it says about the model that runs on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from parathinker.answer import StreamEvent
from parathinker.data.tasks import read_example_problems
from parathinker.errors import UsageError
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.folders import EXAMPLES, resolve_model
from parathinker.params import (
    DEFAULT_AUTO_PATHS,
    DEFAULT_MAX_PATH_TOKENS,
    DEFAULT_MAX_SUMMARY_TOKENS,
    DEFAULT_TEMPERATURE,
    DEFAULT_TERMINATION,
    ThinkingParams,
)
from parathinker.prompt import read_chat_template
from parathinker.serving.lengths import Length
from parathinker.serving.settings import ServeSettings

if TYPE_CHECKING:
    from parathinker import EngineLoad, Question


class Thinker(Protocol):
    """The public methods of :class:`~parathinker.ParaThinker` that a server calls."""

    @property
    def max_paths(self) -> int:
        """The largest number of paths."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it takes questions."""
        ...

    @property
    def task(self) -> str | None:
        """The task that the model was made for."""
        ...

    def prompt_tokens(self, question: Question) -> int:
        """Tokens of a question's prompt."""
        ...

    def astream(
        self, question: Question, params: ThinkingParams | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Events of one question; closing the generator cancels the request."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens."""
        ...

    def load(self) -> EngineLoad:
        """How busy it is."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True)
class ModelCard:
    """What clients may know of the model, and what a request gets that does not say."""

    name: str
    max_paths: int
    """What a request may ask for: the model's, or the server's limit if that is lower."""
    task: str | None
    chat: bool
    """Whether it has a chat template, and so takes several messages."""
    context: int
    default_paths: int | str
    path_length: Length
    answer_length: Length
    described_defaults: dict[str, Any]
    """The same for people: with the model's own where the server says nothing."""
    limits: dict[str, int | None]
    examples: tuple[str, ...]


def load_thinker(settings: ServeSettings) -> tuple[Thinker, ModelCard]:
    """Load the model; this takes its time and imports PyTorch.

    Raises:
        CheckpointError, UsageError: as :meth:`ParaThinker.from_pretrained`; or the server's
            settings do not fit the model.
    """
    from parathinker.parathinker import ParaThinker

    folder = resolve_model(settings.model)
    thinker = ParaThinker.from_pretrained(
        folder,
        settings.device,
        settings.dtype,
        weights=settings.weights,
        kv_cache_memory=_memory(settings.kv_cache_memory),
        threads=settings.threads,
        backend=settings.backend,
        **settings.engine_args,
    )
    return thinker, describe(settings, thinker, folder)


def describe(settings: ServeSettings, thinker: Thinker, folder: Path) -> ModelCard:
    """The card of a loaded model.

    Raises:
        UsageError: the defaults ask for more than the model has or the limits allow.
    """
    config = DecoderConfig.from_folder(folder)
    own = config.parathinker
    most = min(thinker.max_paths, settings.limit_paths or thinker.max_paths)
    paths = settings.paths or min(DEFAULT_AUTO_PATHS, most)
    if isinstance(paths, int) and paths > most:
        raise UsageError(f"paths should be at most {most} for {settings.served_name}; got {paths}")
    if settings.rounds > settings.limit_rounds:
        raise UsageError(
            f"rounds should be at most {settings.limit_rounds}, the server's limit; "
            f"got {settings.rounds}"
        )
    path = Length.of(
        settings.max_path_tokens,
        own.get("max_path_tokens") or DEFAULT_MAX_PATH_TOKENS,
        settings.limit_path_tokens,
    )
    answer = Length.of(
        settings.max_summary_tokens,
        own.get("max_summary_tokens") or DEFAULT_MAX_SUMMARY_TOKENS,
        settings.limit_answer_tokens,
    )
    temperature = settings.temperature
    if temperature is None:
        temperature = own.get("temperature", DEFAULT_TEMPERATURE)
    return ModelCard(
        name=settings.served_name,
        max_paths=most,
        task=thinker.task,
        chat=read_chat_template(folder) is not None,
        context=config.max_context,
        default_paths=paths,
        path_length=path,
        answer_length=answer,
        described_defaults={
            "paths": paths,
            "termination": settings.termination or own.get("termination", DEFAULT_TERMINATION),
            "max_path_tokens": path.chosen or min(path.usual, config.max_context),
            "max_summary_tokens": answer.chosen or min(answer.usual, config.max_context),
            "temperature": temperature,
            "rounds": settings.rounds,
            "show": settings.show,
        },
        limits={
            "paths": most,
            "path_tokens": settings.limit_path_tokens,
            "answer_tokens": settings.limit_answer_tokens,
            "prompt_tokens": settings.limit_prompt_tokens,
            "rounds": settings.limit_rounds,
            "choices": settings.limit_choices,
            "body_bytes": settings.limit_body_bytes,
            "context_tokens": config.max_context,
        },
        examples=_examples(folder),
    )


def _examples(folder: Path) -> tuple[str, ...]:
    if not (folder / EXAMPLES).is_file():
        return ()
    return tuple(problem.question for problem in read_example_problems(folder))


def _memory(text: str | None) -> float | str | None:
    """A share of all memory is a number, a size is a text."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
