"""What methods ask of a lab, from a script: each method against a case worked out by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from parathinker.data.schema import Question
from parathinker.evaluation.generations import LENGTH, STOP, Generation, Written, shortened
from parathinker.evaluation.lab import Case
from parathinker.evaluation.methods import parse_method
from parathinker.evaluation.store import Outcome

TRUTH = "42"
OPEN, CLOSE, SUMMARY = 900, 901, 902


def path(answer: object, tokens: int, reason: str = STOP, sure: Sequence[float] = ()) -> Written:
    """A path of so many tokens that says its answer; token ids count up, so cuts can be seen."""
    body = range(1, tokens - 1)
    text = f"It is \\boxed{{{answer}}}." if reason == STOP else f"first 7, then {answer}"
    return Written(text, (OPEN, *body, CLOSE), reason, 1, tuple(sure))


class ScriptedLab:
    """What methods ask of a lab, answered from a script.

    Args:
        summary: the text of every summary.
        steps: for each step of a tree, what each branch then is.
    """

    max_paths = 8
    termination = "first-finish"
    thinks = True
    name = "scripted"

    def __init__(
        self,
        paths: Sequence[Written] = (),
        summary: str = "\\boxed{42}",
        room: int = 10_000,
        steps: Sequence[Sequence[Written]] = (),
        samples: Sequence[Written] = (),
    ) -> None:
        self._samples = list(samples)
        self._paths, self._summary, self._room, self._steps = list(paths), summary, room, steps
        self.read: list[Written] = []
        self.grown_by: list[tuple[list[tuple[int, ...]], int, list[int]]] = []
        self.said: dict[str, str] = {}
        """What the model says of a chain, by the chain's text."""

    async def paths(self, case: Case) -> tuple[list[Written], tuple[str, ...]]:
        return [self.limited(one, case.budget) for one in self._paths[: case.width]], ("paths",)

    async def samples(self, case: Case, thought_id: int) -> tuple[list[Written], tuple[str, ...]]:
        return self._samples[: case.width], ("samples",)

    async def chain(
        self, case: Case, tokens: int, forced: bool = False, temperature: float | None = None
    ) -> Generation:
        return Generation("chain", (self.limited(self._paths[0], tokens),), 0.0)

    async def grown(
        self,
        case: Case,
        beginnings: list[tuple[int, ...]],
        tokens: int,
        step: int,
        thought_ids: list[int],
    ) -> Generation:
        assert len(set(thought_ids)) == len(beginnings), "a request has each id once"
        self.grown_by.append((list(beginnings), tokens, list(thought_ids)))
        made = tuple(
            dataclasses.replace(one, thought_id=i)
            for one, i in zip(self._steps[step], thought_ids, strict=True)
        )
        return Generation(f"step {step}", made, 0.0)

    async def asked(self, case: Case, prompt: str, tokens: int) -> Generation:
        (said,) = [said for text, said in self.said.items() if f"\n{text}\n" in prompt]
        return Generation("asked", (Written(said, (OPEN, *range(tokens - 2), CLOSE), STOP),), 0.0)

    async def summary(
        self, case: Case, paths: Sequence[Written], layout: str = "parallel"
    ) -> Generation:
        self.read = list(paths)
        return Generation(
            f"summary {layout}", (Written(self._summary, (SUMMARY, 1, 2), STOP),), 0.0
        )

    def limited(self, one: Written, tokens: int, reason: str = LENGTH) -> Written:
        text = "first 7"
        return one if one.tokens <= tokens else shortened(one, tokens, text, reason)

    def chain_room(self, case: Case, behind: int = 0) -> int:
        return self._room - behind

    def summary_limit(self, case: Case) -> int:
        return case.summary_tokens - 1

    async def score(self, question: Question, text: str) -> float:
        return float(f"{{{question.answer}}}" in text)

    async def same(self, one: str, other: str) -> bool:
        return {one, other} == {"1/2", "0.5"}


def case(width: int, budget: int = 100, summary_tokens: int = 20) -> Case:
    question = Question("q", "What is it?", TRUTH)
    return Case(question, "What is it?", width, budget, summary_tokens, seed=0)


def outcome(method: str, lab: ScriptedLab, one: Case) -> Outcome:
    chosen = parse_method(method)
    chosen.check(one, lab)  # type: ignore[arg-type]
    found = asyncio.run(chosen.answer(one, lab))  # type: ignore[arg-type]
    assert found.tokens <= one.tokens
    return found
