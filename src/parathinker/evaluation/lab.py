"""Where methods get what a model writes: sampled once, kept, and shared by all methods.

What makes a comparison fair is in here. All methods of one replicate vote on, summarise and cut the
same sampled paths; fewer paths are the first of many; a shorter budget is the beginning of a longer
one, for paths and for the single chain. That is exact: a path's tokens follow from its own seed,
whoever thinks beside it and wherever it has to end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from parathinker import Answer, ParaThinker, PathEnd, ThinkingParams
from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.evaluation.generations import (
    LENGTH,
    STOP,
    Generation,
    Written,
    key_of,
    shortened,
)
from parathinker.evaluation.keeping import Forgetful, Kept
from parathinker.params import DEFAULT_TERMINATION
from parathinker.prepare import own_defaults
from parathinker.scoring import ScoringPool
from parathinker.scoring.extract import as_number, plain

LIKELIEST = 20
"""Tokens whose log-probabilities make a token's confidence, as DeepConf takes them."""
WAIT = "\nWait"
"""What a chain that is forced to go on writes where it would have ended (arXiv 2501.19393)."""
IN_FLIGHT = 32
"""Requests at once."""
GROUP_SEEDS, _STEP_SEEDS, _ALONE_SEEDS = 1_000_000_007, 1_000_003, 998_244_353
"""Between the seeds of groups, where there are more paths than the model has control tokens, of
the steps of one chain, and of paths that are sampled alone: each has randomness of its own."""


_NEWER = ("summary_stop", "thought_ids")
"""Parameters that are younger than some runs: left at their defaults they have no part in a name,
so that what those runs made is found."""


@dataclass(frozen=True)
class Case:
    """One question to answer within one budget."""

    question: Question
    prompt: str
    width: int
    """P: how many paths the budget is for."""
    budget: int
    """Tokens for each of them."""
    summary_tokens: int
    """Of the whole budget, what is set aside where there is a summary."""
    seed: int
    other: Case | None = None
    """Another question of the benchmark, for controls."""

    @property
    def tokens(self) -> int:
        """All that may be generated."""
        return self.width * self.budget

    @property
    def path_tokens(self) -> int:
        """What each path may have where a summary follows."""
        return (self.tokens - self.summary_tokens) // self.width


@dataclass(frozen=True)
class Sampling:
    """How a model writes, alike for all methods."""

    model: str
    """Names the model and its weights."""
    budget: int
    """Tokens of each path that is sampled."""
    widest: int
    """Paths that are sampled for each question."""
    temperature: float | None
    top_p: float
    confidences: bool = True
    """Whether the confidence of sampled paths' tokens is kept."""


class Lab:
    """One model's writing for the methods of a run.

    Args:
        store: where it is kept; one store may serve the labs of several models.
    """

    thinks: ClassVar[bool] = True
    """Whether the model has control tokens, and can think natively."""

    def __init__(
        self, model: ParaThinker, sampling: Sampling, store: Kept, scoring: ScoringPool | None
    ) -> None:
        self.model, self._how, self._store, self._scoring = model, sampling, store, scoring
        self._threads = ThreadPoolExecutor(IN_FLIGHT, "lab")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._prefix_tokens = len(model.encode(model.config.parathinker.get("summary_prefix", "")))

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def name(self) -> str:
        """The model's name for people."""
        return self._how.model.partition(" ")[0]

    def alone(self, width: int, confidences: bool) -> Lab:
        """The same model for the clock: nothing is remembered, and only so many paths sampled."""
        how = dataclasses.replace(self._how, widest=width, confidences=confidences)
        return type(self)(self.model, how, Forgetful(), None)

    @property
    def max_paths(self) -> int:
        """How many paths one summary of this model can read."""
        return self.model.max_paths

    @property
    def termination(self) -> str:
        """When this model's thinking ends if nothing is said."""
        return own_defaults(self.model.config).termination or DEFAULT_TERMINATION

    def chain_room(self, case: Case, behind: int = 0) -> int:
        """Tokens that the context leaves a path, with so many set aside for what follows it."""
        room = self.model.config.max_context - self.model.prompt_tokens(case.prompt)
        return room - max(behind, self._prefix_tokens + 2)

    async def paths(self, case: Case) -> tuple[list[Written], tuple[str, ...]]:
        """The first ``case.width`` sampled paths, cut to the budget, and where they are kept."""
        groups = range(0, case.width, self.max_paths)
        made = await asyncio.gather(*(self._group(case, first) for first in groups))
        written = [path for one in made for path in one.segments][: case.width]
        limited = [self.limited(path, case.budget) for path in written]
        return limited, tuple(one.key for one in made)

    async def _group(self, case: Case, first: int) -> Generation:
        """Sampled paths from the ``first`` on, as many as the model thinks along at once."""
        wanted = min(self.max_paths, case.width - first)
        params = self._params(
            case.seed + GROUP_SEEDS * (first // self.max_paths),
            paths=min(self.max_paths, max(self._how.widest, case.width) - first),
            max_path_tokens=self._how.budget - 1,
            termination="last-finish",
            top_logprobs=LIKELIEST if self._how.confidences else 0,
            logprobs=self._how.confidences,
        )
        # However many there are, a path of them is the same.
        key = self._key("paths", case, dataclasses.replace(params, paths=1))
        return await self._thought(
            "paths", case, params, key, lambda made: len(made.segments) >= wanted
        )

    async def samples(self, case: Case, thought_id: int) -> tuple[list[Written], tuple[str, ...]]:
        """``case.width`` paths, each thought alone behind this ``<think i>``; as :meth:`paths`."""
        made = await asyncio.gather(*(self._sample(case, thought_id, i) for i in range(case.width)))
        limited = [self.limited(one.segments[0], case.budget) for one in made]
        return limited, tuple(one.key for one in made)

    async def _sample(self, case: Case, thought_id: int, index: int) -> Generation:
        params = self._params(
            case.seed + _ALONE_SEEDS * index,
            paths=1,
            thought_ids=(thought_id,),
            max_path_tokens=self._how.budget - 1,
            top_logprobs=LIKELIEST if self._how.confidences else 0,
            logprobs=self._how.confidences,
        )
        return await self._thought("sample", case, params)

    async def chain(
        self, case: Case, tokens: int, forced: bool = False, temperature: float | None = None
    ) -> Generation:
        """One path of up to so many tokens, or as many as the context leaves.

        Args:
            forced: it may not end before, and writes "Wait" instead (arXiv 2501.19393).
            temperature: other than the run's.
        """
        room = self.chain_room(case)
        most = tokens = min(tokens, room)
        if not isinstance(self._store, Forgetful):
            # All widths' chains are beginnings of the longest.
            most = min(max(tokens, self._how.budget * self._how.widest), room)
        params = self._params(case.seed, paths=1)
        if temperature is not None:
            params = dataclasses.replace(params, temperature=temperature)
        key = self._key("chain", case, params, forced=forced)
        params = dataclasses.replace(params, max_path_tokens=most - 1)
        if forced:
            params = dataclasses.replace(params, min_path_tokens=most - 1, continuation=WAIT)

        def enough(made: Generation) -> bool:
            chain = made.segments[0]
            return chain.tokens >= tokens or (chain.finish_reason == STOP and not forced)

        made = await self._thought("chain", case, params, key, enough)
        chain = made.segments[0]
        if forced:  # it never ends by itself, not even where its last token would have done it
            chain = dataclasses.replace(chain, finish_reason=LENGTH)
        return dataclasses.replace(made, segments=(self.limited(chain, tokens),))

    async def grown(
        self,
        case: Case,
        beginnings: Sequence[tuple[int, ...]],
        tokens: int,
        step: int,
        thought_ids: Sequence[int] | None = None,
    ) -> Generation:
        """Paths that go on from their beginnings for up to so many tokens more.

        Args:
            tokens: closing token included; of the longest beginning, and all are to be as long.
            step: each has randomness of its own.
            thought_ids: which ``<think i>`` each path began behind; by default the first.
        """
        longest = max(map(len, beginnings))
        first = tuple(range(1, len(beginnings) + 1))
        ids = first if thought_ids is None else tuple(thought_ids)
        params = self._params(
            case.seed + _STEP_SEEDS * step,
            paths=len(beginnings),
            # The first are the default, and go by its name.
            thought_ids=None if ids == first else ids,
            max_path_tokens=longest + tokens,
            termination="last-finish",
            path_prefix=tuple(beginnings),
            top_logprobs=LIKELIEST,
            logprobs=True,
        )
        return await self._thought("grown", case, params)

    async def asked(self, case: Case, prompt: str, tokens: int) -> Generation:
        """What the model says to something else, in one path of up to so many tokens."""
        other = dataclasses.replace(case, prompt=prompt)
        params = self._params(case.seed, paths=1, max_path_tokens=tokens - 1)
        return await self._thought("asked", other, params)

    async def live(self, case: Case, termination: str, summary: bool = True) -> Answer:
        """The whole of native thinking as users run it, in one request; nothing is kept.

        Args:
            summary: False asks for one token of it, the least there is.
        """
        params = self._params(
            case.seed,
            paths=case.width,
            max_path_tokens=case.path_tokens - 1,
            max_summary_tokens=self.summary_limit(case) if summary else 1,
            termination=termination,
        )
        return await self.model.athink(case.prompt, params)

    async def live_paths(self, case: Case, to_finish: int) -> None:
        """Think until so many paths have closed, and stop there; nothing is kept."""
        params = self._params(
            case.seed,
            paths=min(case.width, self.max_paths),
            max_path_tokens=case.budget - 1,
            termination="last-finish",
        )
        stream = self.model.astream(case.prompt, params)
        closed = 0
        try:
            async for event in stream:
                closed += isinstance(event, PathEnd)
                if closed >= to_finish:
                    break
        finally:
            await stream.aclose()

    async def summary(
        self, case: Case, paths: Sequence[Written], layout: str = "parallel"
    ) -> Generation:
        """What the model writes after reading paths."""
        params = dataclasses.replace(
            self._params(case.seed),
            max_summary_tokens=self.summary_limit(case),
        )
        bodies = [list(path.token_ids) for path in paths]
        key = self._key("summary", case, params, paths=bodies, layout=layout)

        async def write() -> Answer:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(
                self._threads,
                lambda: self.model.summarize([case.prompt], [bodies], params, layout=layout),
            )
            return found[0]

        return await self._made(
            key, "summary", case, write, lambda answer: [Written.of(answer.summary)]
        )

    def limited(self, path: Written, tokens: int, reason: str = LENGTH) -> Written:
        """The path as it would have been within so many tokens."""
        if path.tokens <= tokens:
            return path
        if tokens < 2:
            raise UsageError(f"a path needs at least 2 tokens; the budget leaves {tokens}")
        text = self.model.decode(path.token_ids[: tokens - 1])
        return shortened(path, tokens, text, reason)

    async def score(self, question: Question, text: str) -> float:
        """How right an answer is, 0 to 1."""
        kept = self._store.score(question.id, text)
        if kept is not None:
            return kept
        assert self._scoring is not None, "whoever scores nothing remembers no score either"
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._scoring.check, question, text)
        if found.score is None:
            raise UsageError(f"question {question.id} cannot be scored: {found.note}")
        self._store.add_score(question.id, text, found.score, found.note)
        return found.score

    async def same(self, one: str, other: str) -> bool:
        """Whether two answers mean the same in mathematics."""
        if plain(one) == plain(other):
            return True
        if as_number(one) is not None and as_number(other) is not None:
            return False
        asked = Question(f"= {one}", "Is it the same?", one)
        return await self.score(asked, f"\\boxed{{{other}}}") == 1.0

    def _params(self, seed: int, **more: Any) -> ThinkingParams:
        how = self._how
        # Said even where it means nothing, so that names do not depend on what models say of it.
        usual = {"paths": 1, "max_summary_tokens": 1, "termination": DEFAULT_TERMINATION}
        return ThinkingParams(
            **{**usual, "logprobs": False, **more},
            temperature=how.temperature,
            top_p=how.top_p,
            seed=seed,
        )

    def summary_limit(self, case: Case) -> int:
        """Tokens of a summary behind what is forced at its beginning.

        Raises:
            UsageError: none are left.
        """
        limit = case.summary_tokens - 1 - self._prefix_tokens
        if limit < 1:
            raise UsageError(
                f"summary_tokens {case.summary_tokens} leaves nothing behind the summary's forced "
                f"beginning of {1 + self._prefix_tokens} tokens"
            )
        return limit

    def _key(self, kind: str, case: Case, params: ThinkingParams, **more: Any) -> str:
        determined = dataclasses.asdict(params)
        for name in _NEWER:
            if determined[name] == getattr(ThinkingParams, name):
                del determined[name]
        return key_of(kind, model=self._how.model, prompt=case.prompt, params=determined, **more)

    async def _thought(
        self,
        kind: str,
        case: Case,
        params: ThinkingParams,
        key: str | None = None,
        enough: Callable[[Generation], bool] = lambda _: True,
    ) -> Generation:
        return await self._made(
            key or self._key(kind, case, params),
            kind,
            case,
            lambda: self.model.athink(case.prompt, params),
            lambda answer: [Written.of(path) for path in answer.paths],
            enough,
        )

    async def _made(
        self,
        key: str,
        kind: str,
        case: Case,
        write: Callable[[], Awaitable[Answer]],
        segments: Callable[[Answer], list[Written]],
        enough: Callable[[Generation], bool] = lambda _: True,
    ) -> Generation:
        """What is kept under a name, or is being made under it, or is made now.

        Args:
            enough: whether that will do; it may have been made for less.
        """

        if self._loop is not asyncio.get_running_loop():
            self._loop, self._slots = asyncio.get_running_loop(), asyncio.Semaphore(IN_FLIGHT)
            self._running: dict[str, asyncio.Task[Generation]] = {}

        async def make() -> Generation:
            async with self._slots:
                began = time.perf_counter()
                answer = await write()
                seconds = time.perf_counter() - began
            made = Generation(key, tuple(segments(answer)), seconds)
            self._store.add_generation(made, kind, case.question.id)
            return made

        while key in self._running:
            made = await asyncio.shield(self._running[key])
            if enough(made):
                return made
        kept = self._store.generation(key)
        if kept is not None and enough(kept):
            return kept
        task = self._running[key] = asyncio.create_task(make())
        task.add_done_callback(lambda done: self._settled(key, done))
        return await asyncio.shield(task)

    def _settled(self, key: str, task: asyncio.Task[Generation]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone; it is no news then
