"""One request on its way through the engine: prompt, paths, summary; a small state machine.

It owns the request's thought graph and KV caches, says which tokens the next forward should take,
and turns sampled tokens into events. Whatever ends a path, its last token is its ``</think i>``
and has not been through the model yet when thinking ends; all those closing tokens go through
together with the summary's forced beginning, in one forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parathinker.engine.attention import Strand
from parathinker.engine.kv_cache import SiblingCache
from parathinker.engine.sampler import SamplingRow, path_generator
from parathinker.graph import Kind, ThoughtGraph
from parathinker.tokens import ControlTokens

STOP, LENGTH, CUT = "stop", "length", "cut"


@dataclass(frozen=True)
class EngineRequest:
    """A request in token ids, every choice made."""

    prompt: tuple[int, ...]
    thought_ids: tuple[int, ...]
    """Which control tokens open the paths, in the order in which paths are reported."""
    paths_to_finish: int
    """Thinking ends when so many paths have closed."""
    max_path_tokens: int
    max_summary_tokens: int
    budget: int | None
    """Tokens of all paths together, their opening tokens not counted."""
    summary_prefix: tuple[int, ...]
    temperature: float
    summary_temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    logprobs: bool
    end_ids: frozenset[int] = frozenset()
    """The tokenizer's end-of-sequence tokens; they end a segment like its closing token."""
    stop: Callable[[Sequence[int]], bool] | None = None
    """Whether a segment's tokens hold one of the request's stop texts."""
    given_paths: tuple[tuple[int, ...], ...] | None = None
    """What each path says between its opening and closing token; such a request only sums up."""


@dataclass(frozen=True)
class TokenEvent:
    """A token joined a segment; thought id 0 is the summary."""

    thought_id: int
    token_id: int
    logprob: float | None
    """None where it was forced, or logprobs were not asked for."""


@dataclass(frozen=True)
class EndEvent:
    """A segment is complete."""

    thought_id: int
    finish_reason: str


@dataclass
class SegmentOutput:
    """A path or a summary as it grows."""

    thought_id: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    finish_reason: str | None = None
    ending: bool = False
    """Its last token ended it without being its closing token, which is forced next."""


Event = TokenEvent | EndEvent


@dataclass(frozen=True)
class StepInput:
    """What one request puts into a forward."""

    strands: list[Strand]
    tokens: list[int]
    positions: list[int]
    thought_ids: list[int]
    wanted: list[int]
    """Indices, within this input, of the tokens whose logits are needed."""
    sampling: list[SamplingRow]


class RunningRequest:
    """A request being worked on; call :meth:`next_input`, then :meth:`accept`, until ``done``."""

    def __init__(
        self,
        request: EngineRequest,
        control: ControlTokens,
        new_cache: Callable[[int], SiblingCache],
    ) -> None:
        self.request = request
        self.paths = [SegmentOutput(i) for i in request.thought_ids]
        self.summary = SegmentOutput(0)
        self.done = False
        self.started = time.perf_counter()
        self.marks: dict[str, float] = {}
        self._control, self._new_cache = control, new_cache
        self._banned = {
            i: tuple(control.ids - {self._closing(i)}) for i in (0, *request.thought_ids)
        }
        self._random = {
            i: path_generator(request.seed, request.prompt, i) for i in (0, *request.thought_ids)
        }
        self.graph = ThoughtGraph()
        self._prompt = self.graph.add(Kind.PROMPT, len(request.prompt))
        self._segment = {
            i: self.graph.add(Kind.PATH, 0, (self._prompt,), thought_id=i)
            for i in request.thought_ids
        }
        # Paths that are given differ in length from the start and lie each by itself.
        given, count = request.given_paths is not None, len(self.paths)
        path_caches = [new_cache(1) for _ in self.paths] if given else [new_cache(count)] * count
        self._caches = {self._prompt: new_cache(1)}
        self._caches.update(zip(self._segment.values(), path_caches, strict=True))
        # Paths in the order in which they lie in the cache, those still thinking in front.
        self._order = list(self.paths)
        self._live = len(self._order)
        self._phase = self._read_given if given else self._prefill

    def next_input(self) -> StepInput:
        """Tokens of the next forward; the caches' lengths are as they were before it."""
        return self._phase()

    def accept(self, tokens: Sequence[int], logprobs: Sequence[float | None]) -> list[Event]:
        """Take the sampled tokens, one for each of ``sampling``, and move on.

        Returns:
            Events of all tokens that joined a segment, those that the step's input forced first;
            a segment's ``EndEvent`` comes right behind its last token.
        """
        if self._phase == self._decode_summary:
            return self._accept_summary(tokens[0], logprobs[0])
        forced: list[Event] = []
        if self._phase == self._prefill:
            self.marks["prefilled"] = time.perf_counter()
            self._phase = self._think
            forced = [TokenEvent(path.thought_id, path.token_ids[0], None) for path in self.paths]
        return [*forced, *self._accept_paths(tokens, logprobs)]

    # -- what goes in ---------------------------------------------------------------------------

    def _prefill(self) -> StepInput:
        """The prompt, and every path's opening token right behind it."""
        for path in self.paths:
            self._grow(path, self._control.opens[path.thought_id - 1])
        prompt, paths = self._strand([self._prompt], len(self.request.prompt)), self._path_strand()
        first = len(self.request.prompt)
        return StepInput(
            strands=[prompt, paths],
            tokens=[*self.request.prompt, *(path.token_ids[-1] for path in self.paths)],
            positions=self.graph.positions(),
            thought_ids=self.graph.thought_ids(),
            wanted=list(range(first, first + len(self.paths))),
            sampling=self._path_sampling(),
        )

    def _think(self) -> StepInput:
        """The last token of every path that is still thinking."""
        live = self._order[: self._live]
        return StepInput(
            strands=[self._path_strand()],
            tokens=[path.token_ids[-1] for path in live],
            positions=[self._last_position(path) for path in live],
            thought_ids=[path.thought_id for path in live],
            wanted=list(range(len(live))),
            sampling=self._path_sampling(),
        )

    def _begin_summary(self) -> StepInput:
        """All closing tokens, then the summary's forced beginning, in one forward."""
        self._live = len(self._order)
        summary = self._open_summary()
        count = len(self._order)
        return StepInput(
            strands=[self._path_strand(), *summary.strands],
            tokens=[*(path.token_ids[-1] for path in self._order), *summary.tokens],
            positions=[*(self._last_position(path) for path in self._order), *summary.positions],
            thought_ids=[*(path.thought_id for path in self._order), *summary.thought_ids],
            wanted=[count + row for row in summary.wanted],
            sampling=summary.sampling,
        )

    def _read_given(self) -> StepInput:
        """Prompt, all paths and the summary's forced beginning, in one forward."""
        assert self.request.given_paths is not None
        strands = [self._strand([self._prompt], len(self.request.prompt))]
        for path, body in zip(self.paths, self.request.given_paths, strict=True):
            opening = self._control.opens[path.thought_id - 1]
            for token in (opening, *body, self._closing(path.thought_id)):
                self._grow(path, token)
            path.finish_reason = STOP
            strands.append(self._strand([self._segment[path.thought_id]], len(path.token_ids)))
        summary = self._open_summary()
        return StepInput(
            strands=[*strands, *summary.strands],
            tokens=[
                *self.request.prompt,
                *(token for path in self.paths for token in path.token_ids),
                *summary.tokens,
            ],
            positions=self.graph.positions(),
            thought_ids=self.graph.thought_ids(),
            wanted=[self.graph.length - 1],
            sampling=summary.sampling,
        )

    def _open_summary(self) -> StepInput:
        """The summary's forced beginning."""
        forced = [self._control.summary_open, *self.request.summary_prefix]
        segment = self.graph.add(Kind.SUMMARY, 0, (self._prompt, *self._segment.values()))
        self._segment[0] = segment
        self._caches[segment] = self._new_cache(1)
        for token in forced:
            self._grow(self.summary, token)
        start = self.graph.start(segment)
        self._phase = self._decode_summary
        return StepInput(
            strands=[self._strand([segment], len(forced))],
            tokens=forced,
            positions=list(range(start, start + len(forced))),
            thought_ids=[0] * len(forced),
            wanted=[len(forced) - 1],
            sampling=[self._sampling_row(0, self.request.summary_temperature)],
        )

    def _decode_summary(self) -> StepInput:
        return StepInput(
            strands=[self._strand([self._segment[0]], 1)],
            tokens=[self.summary.token_ids[-1]],
            positions=[self._last_position(self.summary)],
            thought_ids=[0],
            wanted=[0],
            sampling=[self._sampling_row(0, self.request.summary_temperature)],
        )

    # -- what comes out -------------------------------------------------------------------------

    def _accept_paths(self, tokens: Sequence[int], logprobs: Sequence[float | None]) -> list[Event]:
        live = self._order[: self._live]
        taken: dict[int, tuple[int, float | None]] = {}
        for path, token, logprob in zip(live, tokens, logprobs, strict=True):
            closing = self._closing(path.thought_id)
            last_slot = len(path.token_ids) == self.request.max_path_tokens
            if token == closing:
                path.finish_reason = STOP
            elif path.ending:
                token, logprob, path.finish_reason = closing, None, STOP
            elif last_slot:
                token, logprob, path.finish_reason = closing, None, LENGTH
            taken[path.thought_id] = token, logprob
        growing = [path for path in live if path.finish_reason is None]
        ended = CUT if self._enough_finished() else LENGTH
        if ended == CUT or self._out_of_budget(len(live), len(growing)):
            # These end here too: this step's token gives way to their closing token.
            for path in growing:
                path.finish_reason = ended
                taken[path.thought_id] = self._closing(path.thought_id), None

        events: list[Event] = []
        for path in self.paths:
            if path.thought_id not in taken:
                continue
            token, logprob = taken[path.thought_id]
            events.append(self._grow(path, token, logprob))
            if path.finish_reason is not None:
                events.append(EndEvent(path.thought_id, path.finish_reason))
            else:
                path.ending = self._ends(path)
        self._retire()
        if self._live == 0:
            self.marks["thought"] = time.perf_counter()
            self._phase = self._begin_summary
        return events

    def _accept_summary(self, token: int, logprob: float | None) -> list[Event]:
        summary = self.summary
        forced = 1 + len(self.request.summary_prefix)
        events: list[Event] = []
        if len(summary.token_ids) == forced:
            now = time.perf_counter()
            # With given paths, prefill and thinking were this one forward.
            self.marks = {"prefilled": now, "thought": now, **self.marks, "summary_token": now}
            events += [TokenEvent(0, opening, None) for opening in summary.token_ids]
        events.append(self._grow(summary, token, logprob))
        if token == self._control.summary_close or self._ends(summary, forced):
            summary.finish_reason = STOP
        elif len(summary.token_ids) - forced >= self.request.max_summary_tokens:
            summary.finish_reason = LENGTH
        if summary.finish_reason is not None:
            events.append(EndEvent(0, summary.finish_reason))
            self.marks["done"] = time.perf_counter()
            self.done = True
        return events

    # -- pieces ---------------------------------------------------------------------------------

    def _grow(self, output: SegmentOutput, token: int, logprob: float | None = None) -> TokenEvent:
        output.token_ids.append(token)
        output.logprobs.append(logprob)
        self.graph.extend(self._segment[output.thought_id])
        return TokenEvent(output.thought_id, token, logprob)

    def _retire(self) -> None:
        """Move finished paths behind the live ones, in the cache too."""
        cache = self._caches[self._segment[self._order[0].thought_id]]
        for index in reversed(range(self._live)):
            if self._order[index].finish_reason is not None:
                self._live -= 1
                cache.swap(index, self._live)
                order = self._order
                order[index], order[self._live] = order[self._live], order[index]

    def _ends(self, output: SegmentOutput, forced: int = 1) -> bool:
        """Whether what the model wrote behind the forced tokens asks for the segment's end."""
        if output.token_ids[-1] in self.request.end_ids:
            return True
        return self.request.stop is not None and self.request.stop(output.token_ids[forced:])

    def _enough_finished(self) -> bool:
        finished = sum(path.finish_reason is not None for path in self.paths)
        return finished >= self.request.paths_to_finish

    def _out_of_budget(self, live: int, growing: int) -> bool:
        """Whether the budget lacks closing tokens for the paths that would grow on."""
        if self.request.budget is None:
            return False
        written = sum(len(path.token_ids) - 1 for path in self.paths)
        return written + live + growing > self.request.budget

    def _closing(self, thought_id: int) -> int:
        control = self._control
        return control.summary_close if thought_id == 0 else control.closes[thought_id - 1]

    def _last_position(self, output: SegmentOutput) -> int:
        return self.graph.end(self._segment[output.thought_id]) - 1

    def _path_strand(self) -> Strand:
        live = self._order[: self._live]
        return self._strand([self._segment[path.thought_id] for path in live], 1)

    def _strand(self, segments: Sequence[int], tokens: int) -> Strand:
        """A strand of siblings; what it reads is what the graph says."""
        ancestors = (self._caches[a] for a in self.graph.ancestors(segments[0]))
        return Strand(
            self._caches[segments[0]], len(segments), tokens, list(dict.fromkeys(ancestors))
        )

    def _path_sampling(self) -> list[SamplingRow]:
        live = self._order[: self._live]
        return [self._sampling_row(path.thought_id, self.request.temperature) for path in live]

    def _sampling_row(self, thought_id: int, temperature: float) -> SamplingRow:
        r = self.request
        uniform = self._random[thought_id].random() if temperature > 0 else 0.0
        return SamplingRow(
            temperature, r.top_k, r.top_p, r.min_p, self._banned[thought_id], uniform
        )
