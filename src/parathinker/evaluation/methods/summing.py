"""Several paths, and a summary that reads them: native, re-prefilled, and with what it lacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.generations import CUT, Written, end_of_thinking
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method, depth
from parathinker.evaluation.store import Outcome
from parathinker.params import DEFAULT_TERMINATION, TERMINATIONS, paths_to_finish

if TYPE_CHECKING:
    from typing_extensions import Self

TOO_LONG = "too long for the context"


@dataclass(frozen=True)
class Parallel(Method):
    """Native parallel thinking: the summary reads all paths' keys and values where they lie."""

    name: ClassVar[str] = "parallel"
    layout: ClassVar[str] = "parallel"
    flat: ClassVar[bool] = False
    """Whether the paths stand one behind another, so that the context must hold their sum."""
    termination: str = DEFAULT_TERMINATION
    """When thinking ends; the paths that are not done are closed where they are."""

    def __post_init__(self) -> None:
        if self.termination not in TERMINATIONS:
            raise UsageError(
                f"method {self.name}: termination should be one of {', '.join(TERMINATIONS)}; "
                f"got {self.termination!r}"
            )

    @classmethod
    def of(cls, lab: Lab) -> Self:
        """As the lab's model thinks if nothing is said."""
        return cls(termination=lab.termination)

    def check(self, case: Case, lab: Lab) -> None:
        super().check(case, lab)
        if case.width > lab.max_paths:
            raise UsageError(
                f"{self.name}: a width of {case.width} is more than this model's "
                f"{lab.max_paths} paths"
            )
        lab.summary_limit(case)
        if case.path_tokens < 2:
            raise UsageError(
                f"{self.name}: a budget of {case.width} × {case.budget} tokens leaves nothing for "
                f"the paths beside a summary of {case.summary_tokens}; lower summary_tokens"
            )

    def remark(self, case: Case, lab: Lab) -> str | None:
        room, remarks = lab.chain_room(case, case.summary_tokens), []
        if self.flat and case.width * case.path_tokens > room:
            remarks.append(
                f"{self.label} at {case.width} × {case.budget}: this model's context has {room} "
                "tokens for paths one behind another; where they take more, there is no answer"
            )
        if self == type(self)() and self != self.of(lab):
            remarks.append(
                f"{self.label} ends with {self.termination}; what this model is made for is "
                f"{self.name}:termination={lab.termination}"
            )
        return "; ".join(remarks) or None

    def _fits(self, case: Case, lab: Lab, paths: list[Written]) -> bool:
        room = lab.chain_room(case, case.summary_tokens)
        return not self.flat or sum(path.tokens for path in paths) <= room

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await self.thought(case, lab)
        return await self.summed(case, lab, paths, keys)

    async def run_alone(self, case: Case, lab: Lab) -> None:
        await lab.live(case, self.termination)

    async def thought(self, case: Case, lab: Lab) -> tuple[list[Written], tuple[str, ...]]:
        """The paths as they are when thinking ends."""
        sampled, keys = await lab.paths(case)
        limited = [lab.limited(path, case.path_tokens) for path in sampled]
        enough = paths_to_finish(case.width, self.termination)
        end = end_of_thinking([path.tokens for path in limited], enough)
        return [lab.limited(path, end, CUT) for path in limited], keys

    async def summed(
        self, case: Case, lab: Lab, paths: list[Written], keys: tuple[str, ...]
    ) -> Outcome:
        """The summary's answer."""
        if not self._fits(case, lab, paths):
            # What cannot be read cannot be summed up: the method has no answer.
            spent, longest = sum(path.tokens for path in paths), depth(paths)
            return Outcome(0.0, (), spent, 0, longest, note=TOO_LONG, generations=keys)
        made = await lab.summary(case, paths, self.layout)
        summary = made.segments[0]
        score = await lab.score(case.question, summary.text)
        again = sum(path.tokens for path in paths) if self.layout == "chain" else 0
        return Outcome(
            score,
            (summary.text,),
            sum(path.tokens for path in paths),
            summary.tokens,
            depth(paths, summary),
            again,
            "summary out of tokens" if summary.finish_reason == "length" else "",
            (*keys, made.key),
        )


@dataclass(frozen=True)
class Reprefill(Parallel):
    """The same paths pasted into one flat causal text, which the model reads anew to sum up.

    The model is the same, thought embeddings included; what is lost is that the paths stood side by
    side, unseen by each other, at the same positions.
    """

    name: ClassVar[str] = "reprefill"
    layout: ClassVar[str] = "chain"
    flat: ClassVar[bool] = True

    async def run_alone(self, case: Case, lab: Lab) -> None:
        # Sampled to where thinking ends, then read again.
        answer = await lab.live(case, self.termination, summary=False)
        paths = [Written.of(path) for path in answer.paths]
        if self._fits(case, lab, paths):
            await lab.summary(case, paths, self.layout)


@dataclass(frozen=True)
class FlatPositions(Parallel):
    """The same paths unseen by each other, but each at positions behind the one before."""

    name: ClassVar[str] = "flat-positions"
    timed: ClassVar[bool] = False
    flat: ClassVar[bool] = True
    layout: ClassVar[str] = "flat-positions"


@dataclass(frozen=True)
class Withheld(Parallel):
    """A control: the summary gets empty paths. What it still gets right, it did not read."""

    name: ClassVar[str] = "withheld"
    timed: ClassVar[bool] = False

    async def thought(self, case: Case, lab: Lab) -> tuple[list[Written], tuple[str, ...]]:
        paths, keys = await super().thought(case, lab)
        ends = [(path.token_ids[0], path.token_ids[-1]) for path in paths]
        return [
            dataclasses.replace(path, text="", token_ids=ids, confidences=())
            for path, ids in zip(paths, ends, strict=True)
        ], keys


@dataclass(frozen=True)
class Shuffled(Parallel):
    """A control: the summary gets the paths of another question."""

    name: ClassVar[str] = "shuffled"
    timed: ClassVar[bool] = False

    def check(self, case: Case, lab: Lab) -> None:
        super().check(case, lab)
        if case.other is None:
            raise UsageError("shuffled: paths of another question need a second question")

    async def thought(self, case: Case, lab: Lab) -> tuple[list[Written], tuple[str, ...]]:
        assert case.other is not None
        return await super().thought(case.other, lab)
