"""Several paths, each with an answer of its own, and a rule that chooses one of these."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parathinker.data.schema import Question
from parathinker.errors import UsageError
from parathinker.evaluation.generations import CUT, STOP, Written, end_of_thinking
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.methods.base import Method, depth
from parathinker.evaluation.store import Outcome
from parathinker.scoring.extract import (
    as_number,
    extract_answer,
    first_number,
    marked_answer,
    plain,
)


@dataclass(frozen=True)
class Ballot:
    """One path's vote."""

    answer: str
    path: Written
    weight: float = 1.0


@dataclass(frozen=True)
class Majority(Method):
    """The most frequent answer (self-consistency, arXiv 2203.11171).

    A path that comes to no answer has no vote. Answers that tie share the question: its score is
    the mean of theirs.
    """

    name: ClassVar[str] = "majority"
    thought_id: int = 0
    """Instead of paths 1 to P: P samples of the path with this thought id, each thought alone.
    Where ids decide how a path goes about a question, some ways may be better than others."""
    without: str = ""
    """Filtered: a path in which this stands has no vote, unless it stands in all that come to an
    answer. For paths that check themselves, and say so where they found that they are wrong."""

    @property
    def native(self) -> bool:
        return False

    def check(self, case: Case, lab: Lab) -> None:
        super().check(case, lab)
        known = lab.max_paths if lab.thinks else 0
        if not 0 <= self.thought_id <= known:
            raise UsageError(
                f"method {self.name}: {lab.name} has thought ids up to {known}; got "
                f"{self.thought_id}"
            )

    async def paths(self, case: Case, lab: Lab) -> tuple[list[Written], tuple[str, ...]]:
        """What votes."""
        if self.thought_id:
            return await lab.samples(case, self.thought_id)
        return await lab.paths(case)

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await self.paths(case, lab)
        return await elect(case, lab, self.weighed(self.votes(case, paths)), paths, keys)

    def votes(self, case: Case, paths: Sequence[Written]) -> list[Ballot]:
        """Those of the paths that are not filtered out."""
        votes = ballots(case.question, paths)
        if not self.without:
            return votes
        return [vote for vote in votes if self.without not in vote.path.text] or votes

    def weighed(self, votes: list[Ballot]) -> list[Ballot]:
        """The votes that count, and how much each does."""
        return votes


@dataclass(frozen=True)
class Confidence(Majority):
    """Votes weighted by confidence, of the surest paths only (DeepConf, arXiv 2508.15260, offline).

    A path's confidence is that of its least sure group of neighbouring tokens. Of the paths that
    come to an answer those vote whose confidence reaches the percentile ``100 - keep``,
    interpolated between two of them as in DeepConf's code: of n that differ, ⌊(n - 1) · keep / 100⌋
    + 1.
    """

    name: ClassVar[str] = "confidence"
    uses_confidences: ClassVar[bool] = True
    keep: float = 90.0
    """Percent of the paths that vote, the surest; the paper's η, 90 or 10. Of 8 paths 7 or 1."""
    group: int = 2048
    """Tokens of a group; a path with fewer is one group."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 100 or self.group < 1:
            raise UsageError(
                "method confidence: keep should be above 0, at most 100, and group 1 or more; got "
                f"{self.keep:g} and {self.group}"
            )

    def weighed(self, votes: list[Ballot]) -> list[Ballot]:
        sure = [lowest_group(vote.path.confidences, self.group) for vote in votes]
        if not votes:
            return []
        least = np.percentile(sure, 100 - self.keep)
        return [
            dataclasses.replace(vote, weight=weight)
            for vote, weight in zip(votes, sure, strict=True)
            if weight >= least
        ]


@dataclass(frozen=True)
class Likeliest(Majority):
    """The answer of the path that the model itself finds likeliest: by the mean log-probability of
    its tokens at temperature 1, whatever it was sampled at. Paths that tie share the question.
    """

    name: ClassVar[str] = "likeliest"
    uses_confidences: ClassVar[bool] = True

    def weighed(self, votes: list[Ballot]) -> list[Ballot]:
        sure = [statistics.fmean(vote.path.logprobs or (-math.inf,)) for vote in votes]
        return [vote for vote, one in zip(votes, sure, strict=True) if one == max(sure)]


@dataclass(frozen=True)
class Short(Majority):
    """The first m paths to finish vote, the others are stopped then (short-m@k, arXiv 2505.17813).

    Paths that finish in the same step as the m-th vote too. Among answers that tie, the one with
    the shortest path wins, as in the paper.
    """

    name: ClassVar[str] = "short"
    m: int = 3

    def __post_init__(self) -> None:
        if self.m < 1:
            raise UsageError(f"method short: m should be 1 or more; got {self.m}")

    async def answer(self, case: Case, lab: Lab) -> Outcome:
        paths, keys = await self.paths(case, lab)
        end = end_of_thinking([path.tokens for path in paths], min(self.m, len(paths)))
        stopped = [lab.limited(path, end, CUT) for path in paths]
        votes = self.votes(case, [path for path in paths if path.tokens <= end])
        return await elect(case, lab, votes, stopped, keys, shortest_wins=True)

    async def run_alone(self, case: Case, lab: Lab) -> None:
        if case.width > lab.max_paths or self.thought_id:
            await self.paths(case, lab)
        else:
            await lab.live_paths(case, min(self.m, case.width))


@dataclass(frozen=True)
class Best(Method):
    """The best path by the task's own scorer: what a perfect verifier would choose. A ceiling."""

    name: ClassVar[str] = "best"

    @property
    def native(self) -> bool:
        return False

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


def ballots(question: Question, paths: Sequence[Written]) -> list[Ballot]:
    """The votes of all paths that come to an answer.

    A path that was stopped on its way has a vote if it marks an answer as such; the last number of
    half a thought is none. If that leaves nobody, such numbers vote after all.
    """
    for guess in (False, True):
        found = [
            Ballot(answer, path)
            for path in paths
            if (answer := answer_in(question, path.text, guess or path.finish_reason == STOP))
        ]
        if found:
            return found
    return []


def answer_in(question: Question, text: str, complete: bool) -> str | None:
    """The answer that a path comes to, as the question's scorer would read it."""
    marked = marked_answer(text)
    if not _is_mathematical(question):  # such a task's scorer reads all that is not marked
        return marked or (text.strip() or None if complete else None)
    if marked is None:
        return extract_answer(text) if complete else None
    if question.metadata.get("task") and as_number(marked) is None:
        return first_number(marked)
    return marked


async def elect(
    case: Case,
    lab: Lab,
    votes: Sequence[Ballot],
    paths: list[Written],
    keys: tuple[str, ...],
    shortest_wins: bool = False,
) -> Outcome:
    """The outcome of a vote.

    Args:
        paths: all that were paid for.
        shortest_wins: among answers that tie; otherwise they share the question.
    """
    shares = await parties_of(case.question, [vote.answer for vote in votes], lab)
    parties = [[votes[i] for i in share] for share in shares]
    totals = [math.fsum(vote.weight for vote in party) for party in parties]
    most = max(totals, default=0.0)
    winners = [
        party
        for party, total in zip(parties, totals, strict=True)
        if math.isclose(total, most, rel_tol=1e-9)
    ]
    if shortest_wins and len(winners) > 1:
        lengths = [min(vote.path.tokens for vote in party) for party in winners]
        pairs = zip(winners, lengths, strict=True)
        winners = [party for party, length in pairs if length == min(lengths)]
    texts = tuple(party[0].path.text for party in winners)
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


async def parties_of(question: Question, answers: Sequence[str], lab: Lab) -> list[list[int]]:
    """Places of answers that are one; where they are mathematics, those that it calls equal are."""
    parties: list[list[int]] = []
    for at, other in enumerate(answers):
        for party in parties:
            one = answers[party[0]]
            equal = plain(one) == plain(other)
            if equal or (_is_mathematical(question) and await lab.same(one, other)):
                party.append(at)
                break
        else:
            parties.append([at])
    return parties


def _is_mathematical(question: Question) -> bool:
    """Whether answers are read as numbers or formulas; those of other tasks are just texts."""
    expected = (question.metadata.get("entry") or {}).get("answer")
    return not question.metadata.get("task") or as_number(str(expected)) is not None


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
