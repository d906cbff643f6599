"""One chain of thought, as long as the whole budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method, depth
from parathinker.evaluation.store import Outcome


@dataclass(frozen=True)
class Sequential(Method):
    """One chain that may use the budget of all paths; its answer is read off its text."""

    name: ClassVar[str] = "sequential"
    forced: bool = False
    """Budget forcing (arXiv 2501.19393): whenever it would end before its budget, it writes "Wait"
    and goes on."""
    greedy: bool = False
    """Temperature 0."""
    summary: bool = False
    """The model's own summary of the chain gives the answer, at the cost of its tokens."""

    @property
    def native(self) -> bool:
        return self.summary

    def check(self, case: Case, lab: Lab) -> None:
        super().check(case, lab)
        if self.summary:
            lab.summary_limit(case)
        if self.chain_tokens(case, lab) < 2:
            raise UsageError(
                f"{self.label}: a budget of {case.tokens} tokens leaves nothing for the chain "
                f"beside a summary of {case.summary_tokens}; lower summary_tokens"
            )

    def remark(self, case: Case, lab: Lab) -> str | None:
        tokens = self.chain_tokens(case, lab)
        if tokens == case.tokens - self._behind(case):
            return None
        return (
            f"{self.label} at {case.width} × {case.budget}: beside the prompt this model's context "
            f"leaves a chain {tokens} tokens; longer ones end there"
        )

    def _behind(self, case: Case) -> int:
        return case.summary_tokens if self.summary else 0

    def chain_tokens(self, case: Case, lab: Lab) -> int:
        """What the chain may have, within budget and context."""
        return min(case.tokens - self._behind(case), lab.chain_room(case, self._behind(case)))

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        tokens = self.chain_tokens(case, lab)
        made = await lab.chain(case, tokens, self.forced, 0.0 if self.greedy else None)
        chain = made.segments[0]
        text, written = chain.text, 0
        keys: tuple[str, ...] = (made.key,)
        if self.summary:
            summed = await lab.summary(case, [chain])
            text, written = summed.segments[0].text, summed.segments[0].tokens
            keys = (*keys, summed.key)
        score = await lab.score(case.question, text)
        full = "out of context" if tokens < case.tokens - self._behind(case) else "out of tokens"
        return Outcome(
            score,
            (text,),
            path_tokens=chain.tokens,
            summary_tokens=written,
            depth=depth([chain]) + written,
            note=full if chain.finish_reason == "length" and not self.forced else "",
            generations=keys,
        )
