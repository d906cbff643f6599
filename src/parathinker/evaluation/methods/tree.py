"""Tree of thoughts: chains in steps, of which the most promising go on (arXiv 2305.10601)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.generations import Written
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method
from parathinker.evaluation.store import Outcome


@dataclass(frozen=True)
class _Leaf:
    """A chain so far: its tokens without opening and closing ones."""

    body: tuple[int, ...]
    text: str
    sure: float
    done: bool


@dataclass(frozen=True)
class Tree(Method):
    """Breadth-first search: at each depth the kept chains branch, the model's own confidence in
    what it just wrote values the branches, and the best are kept.

    The whole budget is shared out evenly: each of ``depth`` steps has P × budget ÷ depth tokens for
    its branches. The search ends with the chain that the model is surest of.
    """

    name: ClassVar[str] = "tree"
    uses_confidences: ClassVar[bool] = True
    breadth: int = 2
    """Chains that are kept at each depth."""
    depth: int = 3
    """Steps from the first token to the last."""

    def __post_init__(self) -> None:
        if self.breadth < 1 or self.depth < 1:
            raise UsageError(
                f"method tree: breadth and depth should be 1 or more; got {self.breadth} and "
                f"{self.depth}"
            )

    def check(self, case: Case, lab: Lab) -> None:
        if self._step(case, lab) < 2:
            raise UsageError(
                f"tree: a budget of {case.width} × {case.budget} tokens is too small for "
                f"{self.depth} steps of {self._branches(case, lab)} branches"
            )

    def _branches(self, case: Case, lab: Lab) -> int:
        """Chains that grow at once: as many as the paths that others get."""
        return min(max(case.width, self.breadth), lab.max_paths)

    def _step(self, case: Case, lab: Lab) -> int:
        # Each branch of a step has an opening and a closing token beside what it goes on by.
        return case.tokens // self.depth // self._branches(case, lab) - 2

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        branches, step = self._branches(case, lab), self._step(case, lab)
        kept = [_Leaf((), "", 0.0, False)]
        tokens = longest = 0
        keys: list[str] = []
        for level in range(self.depth):
            growing = [leaf for leaf in kept if not leaf.done]
            if not growing:
                break
            starts = [growing[i % len(growing)] for i in range(branches)]
            made = await lab.grown(case, [leaf.body for leaf in starts], step + 1, f"{level}")
            keys.append(made.key)
            grown = [
                _grown(path, len(start.body), lab)
                for path, start in zip(made.segments, starts, strict=True)
            ]
            tokens += sum(
                len(leaf.body) - len(start.body) + 2
                for leaf, start in zip(grown, starts, strict=True)
            )
            longest += max(
                len(leaf.body) - len(start.body) for leaf, start in zip(grown, starts, strict=True)
            )
            candidates = [leaf for leaf in kept if leaf.done] + grown
            kept = sorted(candidates, key=lambda leaf: -leaf.sure)[: self.breadth]
        best = kept[0]
        score = await lab.score(case.question, best.text)
        return Outcome(
            score,
            (best.text,),
            tokens,
            0,
            longest + 2,
            note="" if best.done else "out of tokens",
            generations=tuple(keys),
        )


def _grown(path: Written, known: int, lab: Lab) -> _Leaf:
    """A chain after one more step; its value is the mean confidence of the step's tokens."""
    body = path.token_ids[1:-1]
    fresh = path.confidences
    return _Leaf(
        tuple(body),
        path.text,
        sum(fresh) / len(fresh) if fresh else 0.0,
        path.finish_reason == "stop",
    )
