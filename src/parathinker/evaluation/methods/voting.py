"""Several paths, each with an answer of its own, and a rule that chooses one of these."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.generations import CUT, Written, end_of_thinking
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method, depth
from parathinker.evaluation.store import Outcome
from parathinker.scoring.extract import extract_answer, plain


@dataclass(frozen=True)
class Ballot:
    """One path's vote."""

    answer: str
    """In plain form: two that are written alike come out the same."""
    text: str
    """The path's, which is what gets scored."""
    weight: float


@dataclass(frozen=True)
class Majority(Method):
    """The most frequent answer (self-consistency, arXiv 2203.11171).

    A path that comes to no answer has no vote. Answers that tie share the question: its score is
    the mean of theirs.
    """

    name: ClassVar[str] = "majority"

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await lab.paths(case)
        voting, weights = self.voters(case, paths)
        return await elect(case, lab, voting, weights, paths, keys)

    def voters(self, case: Case, paths: list[Written]) -> tuple[list[Written], list[float]]:
        """Who votes, and with which weights."""
        return paths, [1.0] * len(paths)


@dataclass(frozen=True)
class Confidence(Majority):
    """Votes weighted by confidence, of the surest paths only (DeepConf, arXiv 2508.15260, offline).

    A path's confidence is that of its least sure group of neighbouring tokens.
    """

    name: ClassVar[str] = "confidence"
    uses_confidences: ClassVar[bool] = True
    keep: float = 90.0
    """Percent of the paths that vote, the surest; the paper's η, 90 or 10."""
    group: int = 2048
    """Tokens of a group; a path with fewer is one group."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 100 or self.group < 1:
            raise UsageError(
                "method confidence: keep should be above 0, at most 100, and group 1 or more; got "
                f"{self.keep:g} and {self.group}"
            )

    def voters(self, case: Case, paths: list[Written]) -> tuple[list[Written], list[float]]:
        sure = [lowest_group(path.confidences, self.group) for path in paths]
        count = max(1, round(len(paths) * self.keep / 100))
        kept = sorted(range(len(paths)), key=lambda i: (-sure[i], i))[:count]
        return [paths[i] for i in sorted(kept)], [sure[i] for i in sorted(kept)]


@dataclass(frozen=True)
class Short(Majority):
    """The first m paths to finish vote, the others are stopped then (short-m@k, arXiv 2505.17813).

    Among answers that tie, the shortest path's wins, as in the paper.
    """

    name: ClassVar[str] = "short"
    m: int = 3

    def __post_init__(self) -> None:
        if self.m < 1:
            raise UsageError(f"method short: m should be 1 or more; got {self.m}")

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await lab.paths(case)
        end = end_of_thinking([path.tokens for path in paths], min(self.m, len(paths)))
        stopped = [lab.limited(path, end, CUT) for path in paths]
        first = [path for path in paths if path.tokens <= end]
        # A hair more weight for the shorter ones decides ties and nothing else.
        hair = 1 / (1 + case.tokens) / (1 + len(first))
        weights = [1.0 + hair * (1 - path.tokens / (end + 1)) for path in first]
        return await elect(case, lab, first, weights, stopped, keys)


@dataclass(frozen=True)
class Best(Method):
    """The best path by the task's own scorer: what a perfect verifier would choose. A ceiling."""

    name: ClassVar[str] = "best"

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await lab.paths(case)
        scores = [await lab.score(case.question, path.text) for path in paths]
        chosen = paths[max(range(len(paths)), key=lambda i: scores[i])]
        return Outcome(
            max(scores),
            (chosen.text,),
            sum(path.tokens for path in paths),
            0,
            depth(paths),
            note=f"{sum(score == 1 for score in scores)} of {len(scores)} right",
            generations=keys,
        )


async def elect(
    case: Case,
    lab: Lab,
    voters: Sequence[Written],
    weights: Sequence[float],
    paths: list[Written],
    keys: tuple[str, ...],
) -> Outcome:
    """The outcome of a vote; ``paths`` are all that were paid for."""
    ballots = [
        Ballot(plain(answer), path.text, weight)
        for path, weight in zip(voters, weights, strict=True)
        if (answer := extract_answer(path.text)) is not None
    ]
    parties = await _parties(ballots, lab)
    totals = [sum(ballot.weight for ballot in party) for party in parties]
    most = max(totals, default=0.0)
    winners = [
        party
        for party, total in zip(parties, totals, strict=True)
        if math.isclose(total, most, rel_tol=1e-12)
    ]
    texts = tuple(party[0].text for party in winners)
    scores = [await lab.score(case.question, text) for text in texts]
    note = f"tie of {len(winners)}" if len(winners) > 1 else "" if winners else "no answer"
    return Outcome(
        statistics.fmean(scores) if scores else 0.0,
        texts,
        sum(path.tokens for path in paths),
        0,
        depth(paths),
        note=note,
        generations=keys,
    )


async def _parties(ballots: Sequence[Ballot], lab: Lab) -> list[list[Ballot]]:
    """Ballots by answer; answers that mathematics calls equal are one."""
    parties: list[list[Ballot]] = []
    for ballot in ballots:
        for party in parties:
            if await lab.same(party[0].answer, ballot.answer):
                party.append(ballot)
                break
        else:
            parties.append([ballot])
    return parties


def lowest_group(confidences: Sequence[float], size: int) -> float:
    """The least mean confidence of ``size`` neighbouring tokens; of all, if there are fewer."""
    if not confidences:
        return 0.0
    size = min(size, len(confidences))
    total = math.fsum(confidences[:size])
    least = total
    for leaving, coming in zip(confidences, confidences[size:], strict=False):
        total += coming - leaving
        least = min(least, total)
    return least / size
