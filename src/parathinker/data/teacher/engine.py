"""A teacher that is the model itself: paths of our own engine, for training on-policy."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

from parathinker.data.samples import Failure, Sample, SamplingSettings
from parathinker.data.teacher.asking import GRACE_S, Ask, Refusals, TeacherError, seed_of
from parathinker.errors import EngineError, UsageError
from parathinker.params import ThinkingParams

if TYPE_CHECKING:
    from parathinker.parathinker import ParaThinker

SUMMARY_TOKENS = 1
"""The summary is not wanted, and has to have a token."""


class EngineTeacher:
    """Has a model think about ``concurrency`` questions at a time, all paths of each side by side.

    A path is what stands between ``<think i>`` and its end; it becomes the sample's reasoning, at
    index i - 1. A question of which some paths are there already is thought about again as a whole,
    with the same seed; what comes out is the same.

    Args:
        name: the model's folder, as it was asked for.

    Raises:
        UsageError: more paths than the model can tell apart, or settings that only an endpoint has.
    """

    def __init__(
        self, model: ParaThinker, name: str, settings: SamplingSettings, concurrency: int = 16
    ) -> None:
        if settings.paths > model.max_paths:
            raise UsageError(
                f"paths should be at most {model.max_paths} for {name}; got {settings.paths}"
            )
        if settings.extra:
            raise UsageError("extra fields of a request go to endpoints only, not to an engine")
        self._model, self._name, self._settings = model, name, settings
        self._concurrency = concurrency
        self._refusals = Refusals()

    async def outcomes(
        self, asks: Iterator[Ask], stop: asyncio.Event
    ) -> AsyncGenerator[Sample | Failure, None]:
        """See :class:`~.asking.Teacher`."""
        groups = (list(group) for _, group in itertools.groupby(asks, lambda a: a.question.id))
        running: set[asyncio.Task[list[Sample | Failure]]] = set()
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while True:
                if not stop.is_set():
                    for group in itertools.islice(groups, self._concurrency - len(running)):
                        running.add(asyncio.ensure_future(self._think(group)))
                if not running:
                    for failure in self._refusals.release():
                        yield failure
                    return
                done, _ = await asyncio.wait(
                    [*running, *([] if stopping.done() else [stopping])],
                    timeout=GRACE_S if stop.is_set() else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    return
                for thought in [task for task in running if task.done()]:
                    running.remove(thought)
                    for outcome in thought.result():
                        yield outcome
                    if self._refusals.are_too_many:
                        raise TeacherError(
                            f"{self._name} refused every question so far: "
                            f"{next(iter(self._refusals.of_question.values()))}"
                        )
        finally:
            for task in (*running, stopping):
                task.cancel()
            await asyncio.gather(*running, stopping, return_exceptions=True)

    async def _think(self, asks: list[Ask]) -> list[Sample | Failure]:
        """The paths of one question that are wanted."""
        settings, question = self._settings, asks[0].question
        seed = seed_of(settings.seed, question.id, 0)
        params = ThinkingParams(
            paths=settings.paths,
            termination="last-finish",
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_path_tokens=settings.max_tokens,
            max_summary_tokens=SUMMARY_TOKENS,
            seed=seed,
            logprobs=False,
        )
        text = settings.prompt.replace("{question}", question.question)
        try:
            if settings.system_prompt is None:
                answer = await self._model.athink(text, params)
            else:
                messages = [
                    {"role": "system", "content": settings.system_prompt},
                    {"role": "user", "content": text},
                ]
                answer = await self._model.athink(messages, params)
        except (UsageError, EngineError) as error:
            # A question that does not fit the context, or that the model computes NaN for.
            return [failure for ask in asks for failure in self._refusals.add(ask, str(error))]
        wanted = {ask.index for ask in asks}
        return self._refusals.answered() + [
            Sample(
                question_id=question.id,
                index=path.thought_id - 1,
                reasoning=path.text.strip(),
                answer="",
                finish_reason=path.finish_reason,
                model=settings.models[0],
                endpoint=self._name,
                prompt_tokens=len(answer.prompt_token_ids),
                completion_tokens=len(path.token_ids),
                seconds=answer.timings.total_s,
                seed=seed,
            )
            for path in answer.paths
            if path.thought_id - 1 in wanted
        ]
