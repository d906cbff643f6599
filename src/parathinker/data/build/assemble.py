"""One question and its candidates → an example, or the reason why there is none."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from parathinker.data.build.lengths import TokenCounter, lengths
from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.similarity import choose_diverse, shingles, without_near_duplicates
from parathinker.data.build.sources import Candidate
from parathinker.data.build.summaries import WrittenSummaries
from parathinker.data.build.tally import Tally
from parathinker.data.parts import hold_in_parts
from parathinker.data.schema import Example, PathText, Question
from parathinker.scoring import Scored, extract_answer
from parathinker.scoring.extract import plain
from parathinker.scoring.pool import CRASHED, TIMED_OUT, can_score


@dataclass(frozen=True)
class Judged:
    """A candidate, and whether it is right."""

    candidate: Candidate
    correct: bool | None
    """None where nobody can tell."""
    learn: bool = True
    tokens: int | None = None
    """As a path, where they are counted."""


class NoExampleError(Exception):
    """A question gives no example."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step, self.reason = step, reason


class Assembler:
    """Makes examples, and counts what is dropped on the way.

    Args:
        settings: what to make.
        counter: counts tokens; needed where the settings limit them.
        written: what a teacher wrote about paths, for summaries by a teacher.
    """

    def __init__(
        self,
        settings: BuildSettings,
        counter: TokenCounter | None = None,
        written: WrittenSummaries | None = None,
    ) -> None:
        self._settings, self._counter, self._written = settings, counter, written
        self.verdicts = Counter[str]()
        """How many samples are right, wrong, unknown, unfinished, or could not be checked."""
        self.difficulty = Tally("share of right samples", "questions")
        self.finished = Tally("finished", "paths")
        self.policy = Tally(f"keep {settings.keep}", "paths")
        self.length = Tally("length of a path", "paths")
        self.near_duplicates = Tally("near-duplicate paths", "paths")
        self.choice = Tally("diverse paths", "paths")
        self.enough = Tally("enough paths", "questions")
        self.summaries = Tally("summary", "questions")
        self.context = Tally("length of an example", "questions")

    @property
    def tallies(self) -> list[Tally]:
        """All steps, in order; those that limit nothing are left out."""
        limited = self._settings.max_path_tokens is not None
        return [
            self.difficulty,
            self.finished,
            self.policy,
            *([self.length] if limited else []),
            *([] if self._settings.near_duplicates else [self.near_duplicates]),
            self.choice,
            self.enough,
            self.summaries,
            *([self.context] if self._limits_examples else []),
        ]

    def example(self, question: Question, found: Sequence[tuple[Candidate, Scored]]) -> Example:
        """The example of a question.

        Raises:
            NoExampleError: there is none; it says at which step it was dropped, and why.
        """
        known = can_score(question)
        judged = [self._judge(candidate, scored, known) for candidate, scored in found]
        self._check_difficulty(judged)
        paths = self._allowed(self._finished(judged))
        chosen = self._choose(self._short_enough(paths))
        self._check_enough(chosen)
        kept, summary = self._summed_up(question, chosen)
        readings = self._readings(question, kept)
        if self._settings.readings and not readings:
            summary = None  # without readings it would read all
        return Example(
            question.question,
            tuple(self._path_text(one) for one in kept),
            summary,
            question.id,
            question.answer,
            question.source,
            readings=readings if summary is not None else (),
        )

    def _judge(self, candidate: Candidate, scored: Scored, known: bool) -> Judged:
        correct = candidate.correct
        if correct is None and known:  # what never came to an answer has no score, and is not right
            correct = (scored.score or 0) >= self._settings.threshold
        if not candidate.finished:
            name = "unfinished"
        elif scored.note in (TIMED_OUT, CRASHED):
            name = scored.note
        else:
            name = {True: "right", False: "wrong", None: "nobody knows"}[correct]
        self.verdicts[name] += 1
        return Judged(candidate, correct, candidate.learn)

    def _check_difficulty(self, judged: Sequence[Judged]) -> None:
        known = [one.correct for one in judged if one.correct is not None]
        share = sum(known) / len(known) if known else None
        if not judged:
            raise self._dropped(self.difficulty, "no samples")
        if share is not None and share < self._settings.min_correct:
            raise self._dropped(self.difficulty, "too hard: too few right")
        if share is not None and share > self._settings.max_correct:
            raise self._dropped(self.difficulty, "too easy: too many right")
        self.difficulty.kept += 1

    def _finished(self, judged: Sequence[Judged]) -> list[Judged]:
        kept = []
        for one in judged:
            if not one.candidate.text.strip():
                self.finished.drop("empty")
            elif one.candidate.finished or self._settings.unfinished:
                kept.append(one)
            else:
                self.finished.drop("did not come to its end")
        self.finished.kept += len(kept)
        return kept

    def _allowed(self, judged: Sequence[Judged]) -> list[Judged]:
        keep, kept = self._settings.keep, []
        for one in judged:
            if keep == "all":
                kept.append(replace(one, learn=one.learn and one.candidate.finished))
            elif one.correct:
                kept.append(one)
            elif one.correct is None:
                self.policy.drop("nobody knows whether it is right")
            elif keep == "right-and-wrong":
                kept.append(replace(one, learn=False))
            else:
                self.policy.drop("wrong")
        self.policy.kept += len(kept)
        return kept

    def _short_enough(self, judged: Sequence[Judged]) -> list[Judged]:
        limit = self._settings.max_path_tokens
        if limit is None or self._counter is None:
            return list(judged)
        counted = [replace(one, tokens=self._counter.path(one.candidate.text)) for one in judged]
        kept = [one for one in counted if (one.tokens or 0) <= limit]
        self.length.kept += len(kept)
        self.length.drop(f"more than {limit} tokens", len(counted) - len(kept))
        return kept

    def _choose(self, judged: Sequence[Judged]) -> list[Judged]:
        sets = [shingles(one.candidate.text) for one in judged]
        verdicts = [one.correct for one in judged]
        kept = list(range(len(sets)))
        if not self._settings.near_duplicates:
            kept = without_near_duplicates(sets, verdicts, self._settings.similar_paths)
        self.near_duplicates.kept += len(kept)
        self.near_duplicates.drop("too similar to another", len(judged) - len(kept))
        wrong = [verdicts[i] is False for i in kept]
        most_wrong, most_right = self._quotas(sum(wrong), len(wrong) - sum(wrong))
        count = self._settings.paths
        chosen = choose_diverse([sets[i] for i in kept], wrong, count, most_wrong, most_right)
        self.choice.kept += len(chosen)
        self.choice.drop(f"more than {count}", len(kept) - len(chosen))
        return [judged[kept[i]] for i in chosen]

    def _quotas(self, wrong: int, right: int) -> tuple[int, int]:
        """How many wrong and how many right paths there may be."""
        count, share = self._settings.paths, self._settings.wrong_share
        if share is None:
            return count - min(self._settings.min_right, right), count
        aim = round(share * count)
        # Where one kind is short, the other fills up.
        return max(aim, count - right), max(count - aim, count - wrong)

    def _check_enough(self, chosen: Sequence[Judged]) -> None:
        if len(chosen) < self._settings.min_paths:
            raise self._dropped(self.enough, f"fewer than {self._settings.min_paths} paths")
        if sum(one.correct is True for one in chosen) < self._settings.min_right:
            raise self._dropped(self.enough, f"fewer than {self._settings.min_right} right")
        self.enough.kept += 1

    def _summed_up(
        self, question: Question, chosen: Sequence[Judged]
    ) -> tuple[Sequence[Judged], str | None]:
        """The paths, without the longest ones if they are too much together, and their summary."""
        has_summary = False
        for kept in self._ever_fewer(chosen):
            summary = self._summary(question, kept)
            if summary is None and self._settings.summary != "none":
                continue
            has_summary = True
            if self._fits(question, kept, summary):
                self.summaries.kept += 1
                self.context.kept += 1
                return kept, summary
        if not has_summary:
            raise self._dropped(self.summaries, "nothing to sum up with")
        self.summaries.kept += 1
        raise self._dropped(self.context, "too long")

    def _ever_fewer(self, chosen: Sequence[Judged]) -> Iterator[Sequence[Judged]]:
        """The paths; where lengths matter, also without the longest, while there are enough."""
        yield chosen
        if self._counter is None or not self._limits_examples:
            return
        kept = [
            one if one.tokens else replace(one, tokens=self._counter.path(one.candidate.text))
            for one in chosen
        ]
        while len(kept) > self._settings.min_paths:
            kept.remove(max(kept, key=lambda one: one.tokens or 0))
            if sum(one.correct is True for one in kept) < self._settings.min_right:
                return
            yield list(kept)

    def _readings(self, question: Question, kept: Sequence[Judged]) -> tuple[tuple[int, ...], ...]:
        """Which of the paths each summary reads: such as the answer can be read off."""
        rng = random.Random(question.id)
        sizes = [min(size, len(kept)) for size in self._settings.readings]
        drawn = [tuple(rng.sample(range(len(kept)), size)) for size in sizes]
        return tuple(one for one in drawn if self._readable(question, [kept[i] for i in one]))

    def _readable(self, question: Question, read: Sequence[Judged]) -> bool:
        if sum(one.correct is True for one in read) < self._settings.min_right:
            return False
        if not self._settings.parts or any(one.correct for one in read):
            return True
        said = [extract_answer(one.candidate.answer_text) or "" for one in read]
        return question.answer is not None and hold_in_parts(question.answer, said)

    def _path_text(self, one: Judged) -> PathText:
        path = one.candidate
        thought_id = path.thought_id if self._settings.thought_ids else None
        answer = extract_answer(path.answer_text)
        return PathText(path.text, one.learn, answer, one.correct, thought_id, path.given)

    def _summary(self, question: Question, chosen: Sequence[Judged]) -> str | None:
        kind = self._settings.summary
        right = [one.candidate for one in chosen if one.correct]
        if kind == "template":
            answer = question.answer or _agreed_answer([one.candidate for one in chosen])
            if answer is not None:
                return self._settings.summary_template.replace("{answer}", answer)
        elif kind == "teacher" and self._written is not None:
            return self._written.about(question, [one.candidate.text for one in chosen])
        elif kind == "teacher":
            return next((one.reply for one in right if one.reply), None)
        elif kind == "right-path" and right:
            shortest = min(right, key=lambda one: len(one.text))
            return shortest.reply or _last_paragraph(shortest.text)
        return None

    @property
    def _limits_examples(self) -> bool:
        return (self._settings.max_tokens, self._settings.max_positions) != (None, None)

    def _fits(self, question: Question, kept: Sequence[Judged], summary: str | None) -> bool:
        if self._counter is None or not self._limits_examples:
            return True
        paths = tuple(one.tokens or self._counter.path(one.candidate.text) for one in kept)
        end = None if summary is None else self._counter.summary(summary)
        size = lengths(self._counter.prompt(question.question), paths, end)
        most, last = self._settings.max_tokens, self._settings.max_positions
        return (most is None or size.total <= most) and (last is None or size.positions <= last)

    def _dropped(self, tally: Tally, reason: str) -> NoExampleError:
        tally.drop(reason)
        return NoExampleError(tally.step, reason)


def _agreed_answer(candidates: Sequence[Candidate]) -> str | None:
    """What most paths answer, if at least two and more than half do."""
    answers = [extract_answer(one.answer_text) for one in candidates if one.finished]
    counts = Counter(plain(answer) for answer in answers if answer is not None)
    if not counts:
        return None
    agreed, votes = counts.most_common(1)[0]
    if votes < 2 or 2 * votes <= len(candidates):
        return None
    return next(answer for answer in answers if answer is not None and plain(answer) == agreed)


def _last_paragraph(text: str) -> str:
    return text.strip().split("\n\n")[-1].strip()
