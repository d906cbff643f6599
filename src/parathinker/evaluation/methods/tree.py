"""Tree of thoughts: chains in steps, of which the most promising go on (arXiv 2305.10601)."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.generations import STOP, Generation, Written
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method
from parathinker.evaluation.store import Outcome

_LEAST_STEP = 2
"""Tokens that a step should have."""
ASKED_TOKENS = 10
"""Tokens for a judgement."""
_QUESTION = """{prompt}

Here is the beginning of a solution:

{text}

How likely is it to lead to the right answer? Reply with one word: sure, likely or impossible."""
_SAID = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}
"""What the words are worth in the paper's code; anything else is worth nothing."""
VALUES = ("likelihood", "confidence", "asked")


@dataclass(frozen=True)
class _Leaf:
    """A chain so far: its tokens without opening and closing ones, and what it seems worth."""

    thought_id: int
    """Which ``<think i>`` it began behind, and goes on behind: ids may choose routes."""
    body: tuple[int, ...] = ()
    text: str = ""
    log_likelihood: float = 0.0
    confidences: tuple[float, ...] = ()
    done: bool = False
    said: float = 0.0
    """Its value in the model's own words."""

    def after(self, path: Written) -> _Leaf:
        """The chain after one more step."""
        return _Leaf(
            self.thought_id,
            path.token_ids[1:-1],
            path.text,
            self.log_likelihood + path.log_likelihood,
            (*self.confidences, *path.confidences),
            path.finish_reason == STOP,
        )

    @property
    def likelihood(self) -> float:
        """The mean log-probability of its tokens."""
        return self.log_likelihood / max(1, len(self.confidences))

    @property
    def confidence(self) -> float:
        """The mean of its tokens' confidences."""
        return math.fsum(self.confidences) / max(1, len(self.confidences))


@dataclass(frozen=True)
class Tree(Method):
    """Breadth-first search: at each depth the kept chains branch, the model itself values the
    branches, and the best are kept. The answer is the best chain's.

    There are as many branches as others have paths, and no more chains are kept than that. What is
    left of the budget is shared out evenly among the steps and branches to come.
    """

    name: ClassVar[str] = "tree"
    uses_confidences: ClassVar[bool] = True
    breadth: int = 2
    """Chains that are kept at each depth."""
    depth: int = 3
    """Steps from the first token to the last."""
    value: str = "likelihood"
    """How the model values a chain: by the likelihood of its tokens, by their confidence as in
    DeepConf, or as in the paper: asked, it says sure, likely or impossible."""

    def __post_init__(self) -> None:
        if self.value not in VALUES:
            raise UsageError(
                f"method tree: value should be one of {', '.join(VALUES)}; got {self.value!r}"
            )
        if self.breadth < 1 or self.depth < 1:
            raise UsageError(
                f"method tree: breadth and depth should be 1 or more; got {self.breadth} and "
                f"{self.depth}"
            )

    def check(self, case: Case, lab: Lab) -> None:
        super().check(case, lab)
        if self._step(case, lab, 0, 0, 0) < _LEAST_STEP:
            raise UsageError(
                f"{self.label}: a budget of {case.width} × {case.budget} tokens is too small for "
                f"{self.depth} steps of {self._branches(case, lab)} branches"
            )

    def _branches(self, case: Case, lab: Lab) -> int:
        return min(case.width, lab.max_paths)

    def _step(self, case: Case, lab: Lab, level: int, spent: int, length: int) -> int:
        """Tokens that each branch may grow by, beside an opening and a closing one."""
        share = (case.tokens - spent) // (self.depth - level) // self._branches(case, lab)
        share -= ASKED_TOKENS if self.value == "asked" else 0
        return min(share, lab.chain_room(case) - length) - 2

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        branches = self._branches(case, lab)
        kept = [_Leaf(i + 1) for i in range(branches)]
        tokens = in_a_row = read_again = 0
        keys: list[str] = []
        for level in range(self.depth):
            growing = [leaf for leaf in kept if not leaf.done]
            if not growing:
                break
            length = len(growing[0].body)  # all of them: each step stops all that go on at once
            step = self._step(case, lab, level, tokens, length)
            if step < _LEAST_STEP:
                break
            starts = [growing[i % len(growing)] for i in range(branches)]
            paths, made = await self._grown(case, lab, starts, step + 1, level)
            keys += made
            grown = [leaf.after(path) for leaf, path in zip(starts, paths, strict=True)]
            if self.value == "asked":
                judged = await asyncio.gather(*(self._asked(case, lab, leaf) for leaf in grown))
                grown = [leaf for leaf, _ in judged]
                tokens += sum(said.segments[0].tokens for _, said in judged)
                in_a_row += max(said.segments[0].tokens for _, said in judged)
                keys += [said.key for _, said in judged]
            fresh = [path.tokens - length for path in paths]
            tokens += sum(fresh)
            in_a_row += max(fresh)
            read_again += branches * length
            finished = [leaf for leaf in kept if leaf.done]
            kept = sorted([*finished, *grown], key=self._worth, reverse=True)
            kept = kept[: min(self.breadth, branches)]
        best = max(kept, key=lambda leaf: (leaf.done, self._worth(leaf)))
        score = await lab.score(case.question, best.text)
        return Outcome(
            score,
            (best.text,),
            tokens,
            0,
            in_a_row,
            read_again,
            "" if best.done else "out of tokens",
            tuple(keys),
        )

    async def _grown(
        self, case: Case, lab: Lab, starts: list[_Leaf], tokens: int, level: int
    ) -> tuple[list[Written], list[str]]:
        """One step of each branch. A request has each ``<think i>`` once, so branches of one chain
        grow in several requests, side by side."""
        places: list[list[int]] = []
        seen = Counter[int]()
        for at, leaf in enumerate(starts):
            if seen[leaf.thought_id] == len(places):
                places.append([])
            places[seen[leaf.thought_id]].append(at)
            seen[leaf.thought_id] += 1
        made = await asyncio.gather(
            *(
                lab.grown(
                    case,
                    [starts[at].body for at in some],
                    tokens,
                    level + self.depth * i,
                    [starts[at].thought_id for at in some],
                )
                for i, some in enumerate(places)
            )
        )
        by_place = {
            at: path
            for some, one in zip(places, made, strict=True)
            for at, path in zip(some, one.segments, strict=True)
        }
        return [by_place[at] for at in range(len(starts))], [one.key for one in made]

    def _worth(self, leaf: _Leaf) -> tuple[float, float]:
        if self.value == "confidence":
            return leaf.confidence, 0.0
        return leaf.said, leaf.likelihood

    async def _asked(self, case: Case, lab: Lab, leaf: _Leaf) -> tuple[_Leaf, Generation]:
        """What the model says of a chain. The words' places decide: the first one counts."""
        prompt = _QUESTION.format(prompt=case.prompt, text=leaf.text)
        said = await lab.asked(case, prompt, ASKED_TOKENS)
        text = said.segments[0].text.lower()
        places = {text.find(word): worth for word, worth in _SAID.items() if word in text}
        worth = places[min(places)] if places else 0.0
        return dataclasses.replace(leaf, said=worth), said
