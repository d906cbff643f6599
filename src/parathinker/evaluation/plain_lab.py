"""The same for an ordinary language model, without control tokens: all it can do is write on.

Its P paths are P completions of one prompt under seeds of their own, and none of their tokens opens
or closes anything: all of a budget is the model's own text.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import Any, ClassVar

from parathinker import ThinkingParams
from parathinker.evaluation.generations import LENGTH, STOP, Generation, Written
from parathinker.evaluation.keeping import Forgetful
from parathinker.evaluation.lab import GROUP_SEEDS, LIKELIEST, WAIT, Case, Lab


class PlainLab(Lab):
    """One such model's writing for the methods of a run."""

    thinks: ClassVar[bool] = False

    @property
    def max_paths(self) -> int:
        """No summary reads them, so there is no limit."""
        return sys.maxsize

    def chain_room(self, case: Case, behind: int = 0) -> int:
        """Tokens that the context leaves a text, and one more that a forced chain is cut at."""
        return self.model.config.max_context - self.model.prompt_tokens(case.prompt) - 1

    async def paths(self, case: Case) -> tuple[list[Written], tuple[str, ...]]:
        """The first ``case.width`` sampled texts, cut to the budget, and where they are kept."""
        made = await asyncio.gather(
            *(
                self._completed(case, self._path_params(case, i), self._how.budget, i + 1)
                for i in range(case.width)
            )
        )
        written = [self.limited(one.segments[0], case.budget) for one in made]
        return written, tuple(one.key for one in made)

    async def chain(
        self, case: Case, tokens: int, forced: bool = False, temperature: float | None = None
    ) -> Generation:
        """One text of up to so many tokens; arguments as in :meth:`Lab.chain`.

        A forced one writes "Wait" in place of its end-of-sequence token.
        """
        room = self.chain_room(case)
        tokens = min(tokens, room)
        most = tokens
        if not isinstance(self._store, Forgetful):
            most = min(max(tokens, self._how.budget * self._how.widest), room)
        params = self._params(case.seed)
        if temperature is not None:
            params = dataclasses.replace(params, temperature=temperature)
        if forced:
            params = dataclasses.replace(params, continuation=WAIT, min_path_tokens=1)
            # Only its last token may end it: with one token more, none that counts.
            most += 1
        made = await self._completed(case, params, most, 1, tokens + forced)
        chain = self.limited(made.segments[0], tokens)
        if forced:
            chain = dataclasses.replace(chain, finish_reason=LENGTH)
        return dataclasses.replace(made, segments=(chain,))

    async def live_paths(self, case: Case, to_finish: int) -> None:
        """Write until so many texts have ended, and stop there; nothing is kept."""
        tasks = [
            asyncio.create_task(
                self.model.acomplete(
                    case.prompt,
                    dataclasses.replace(self._path_params(case, i), max_path_tokens=case.budget),
                )
            )
            for i in range(case.width)
        ]
        try:
            for ended, task in enumerate(asyncio.as_completed(tasks), 1):
                await task
                if ended >= to_finish:
                    break
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def limited(self, path: Written, tokens: int, reason: str = LENGTH) -> Written:
        """The text as it would have been within so many tokens: nothing closes it."""
        if path.tokens <= tokens:
            return path
        ids = path.token_ids[:tokens]
        return dataclasses.replace(
            path,
            text=self.model.decode(ids),
            token_ids=ids,
            finish_reason=reason,
            confidences=path.confidences[:tokens],
            logprobs=path.logprobs[:tokens],
        )

    async def _completed(
        self, case: Case, params: ThinkingParams, most: int, number: int, least: int | None = None
    ) -> Generation:
        """A text of up to ``most`` tokens; one that was kept will do if it has ``least``."""
        key = self._key("completion", case, params)
        forced = params.continuation is not None
        wanted = most if least is None else least
        params = dataclasses.replace(params, max_path_tokens=most)
        if forced:
            params = dataclasses.replace(params, min_path_tokens=most)

        def enough(made: Generation) -> bool:
            text = made.segments[0]
            return text.tokens >= wanted or (text.finish_reason == STOP and not forced)

        return await self._made(
            key,
            "completion",
            case,
            lambda: self.model.acomplete(case.prompt, params),
            lambda answer: [dataclasses.replace(Written.of(answer.summary), thought_id=number)],
            enough,
        )

    def _path_params(self, case: Case, index: int) -> ThinkingParams:
        asked = self._how.confidences
        return self._params(
            case.seed + GROUP_SEEDS * index,
            top_logprobs=LIKELIEST if asked else 0,
            logprobs=asked,
        )

    def _params(self, seed: int, **more: Any) -> ThinkingParams:
        how = self._how
        return ThinkingParams(
            paths=1,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=seed,
            **{"logprobs": False, **more},
        )
