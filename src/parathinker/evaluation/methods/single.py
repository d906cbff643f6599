"""One chain of thought, as long as the whole budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method, depth
from parathinker.evaluation.store import Outcome


@dataclass(frozen=True)
class Sequential(Method):
    """One chain that may use the budget of all paths; its answer is read off its text."""

    name: ClassVar[str] = "sequential"
    forced: bool = False
    """Budget forcing: whenever it would end before its budget, it writes "Wait" and goes on."""
    greedy: bool = False
    """Temperature 0."""
    summary: bool = False
    """The model's own summary of the chain gives the answer, at the cost of its tokens."""

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        tokens = case.tokens - (case.summary_tokens if self.summary else 0)
        made = await lab.chain(case, tokens, self.forced, 0.0 if self.greedy else None)
        chain = made.segments[0]
        text, written = chain.text, 0
        keys: tuple[str, ...] = (made.key,)
        if self.summary:
            summed = await lab.summary(case, [chain])
            text, written = summed.segments[0].text, summed.segments[0].tokens
            keys = (*keys, summed.key)
        score = await lab.score(case.question, text)
        return Outcome(
            score,
            (text,),
            path_tokens=chain.tokens,
            summary_tokens=written,
            depth=depth([chain]) + written,
            note="out of tokens" if chain.finish_reason == "length" else "",
            generations=keys,
        )
