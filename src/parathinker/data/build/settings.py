"""All that a build can be asked for, validated; the dataset's ``build.json`` repeats it."""

from __future__ import annotations

from dataclasses import dataclass

from parathinker.benchmarks import BENCHMARKS
from parathinker.errors import UsageError

KEEP = ("right", "right-and-wrong", "all")
PATH_TEXTS = ("reasoning", "whole")
SUMMARIES = ("template", "teacher", "right-path", "none")
TEMPLATE = (
    "By analyzing multiple reasoning processes above, I concluded that: "
    r"The final answer is \boxed{{answer}}."
)
"""Of summaries, in the words of the released models; ``{answer}`` stands for the answer."""


@dataclass(frozen=True)
class BuildSettings:
    """What goes into a dataset, and in what form.

    Raises:
        UsageError: a value that cannot be; names the option and what it may be.
    """

    paths: int = 8
    """Paths of an example, at most."""
    min_paths: int = 2
    """Questions with fewer are dropped."""
    keep: str = "right-and-wrong"
    """``right``; ``right-and-wrong``: the wrong ones are there to be read, not to be learned;
    ``all``: also those that nobody checked, and all are learned."""
    threshold: float = 1.0
    """The score from which on a path is right."""
    min_right: int = 1
    """Right paths that an example needs; 0 takes questions without a reference answer, too."""
    min_correct: float = 0.0
    max_correct: float = 1.0
    """Questions of which fewer, or more, of the checked samples are right are dropped."""
    wrong_share: float | None = None
    """Share of wrong paths to aim for, as far as there are enough of both; None: no aim."""
    path_text: str = "reasoning"
    """``reasoning``: what was thought, or what was said where there is no thought; ``whole``:
    both."""
    unfinished: bool = False
    """Keep paths that did not come to their end; they count as wrong and are never learned."""
    similar_paths: float = 0.8
    """A path this similar to another with the same verdict is dropped; 1 drops equal ones only."""
    near_duplicates: bool = False
    """Drop none for being similar, nor equal: so does the summary meet a model's own paths."""
    thought_ids: bool = False
    """Paths keep the thought ids that they were thought with, where ids decide the route; by
    default training draws them."""
    readings: tuple[int, ...] = ()
    """How many of an example's paths each of its summaries reads, drawn at random; empty for one
    summary that reads them all. One that reads fewer right paths than ``min_right`` is dropped."""
    parts: bool = False
    """Keep only readings whose paths hold the answer in parts: each of its characters stands at its
    place in the answer of one of them, whether or not any is right as a whole."""
    summary: str = "template"
    """``template``; ``teacher``: what a teacher wrote about the paths (``summaries``), or, without
    that, what it said after its first right path; ``right-path``: what the shortest right path
    ends with; ``none``."""
    summary_template: str = TEMPLATE
    summaries: str | None = None
    """Store of what a teacher wrote about the paths, see :mod:`.summaries`."""
    tokenizer: str | None = None
    """Folder of the tokenizer that lengths are counted with."""
    max_path_tokens: int | None = None
    """Longer paths are dropped."""
    max_tokens: int | None = None
    """Of a whole example; paths are dropped, longest first, until it fits."""
    max_positions: int | None = None
    """Largest position that a token may have, plus one: a prompt, its longest path, a summary."""
    similar_questions: float = 0.9
    """A question with the same numbers as an earlier one and this similar to it is dropped."""
    ngram: int = 13
    """Questions that share so many words in a row with a benchmark's are dropped."""
    benchmarks: tuple[str, ...] = BENCHMARKS
    against: tuple[str, ...] = ()
    """Files of further questions to keep clear of."""
    validation: float = 0.02
    """Share of questions that go to ``validation.parquet``, by a hash of their id."""
    timeout_s: float = 5.0
    """Processor time for checking one answer."""

    def __post_init__(self) -> None:
        shares = ("min_correct", "max_correct", "similar_paths", "similar_questions", "validation")
        counts = ("paths", "min_paths", "ngram")
        limits = ("max_path_tokens", "max_tokens", "max_positions")
        checks = [
            (self.keep in KEEP, "keep", f"one of {', '.join(KEEP)}"),
            (self.path_text in PATH_TEXTS, "path_text", f"one of {', '.join(PATH_TEXTS)}"),
            (self.summary in SUMMARIES, "summary", f"one of {', '.join(SUMMARIES)}"),
            *((0 <= getattr(self, name) <= 1, name, "from 0 to 1") for name in shares),
            *((getattr(self, name) >= 1, name, "1 or more") for name in counts),
            *(((getattr(self, name) or 1) >= 1, name, "1 or more") for name in limits),
            (self.min_paths <= self.paths, "min_paths", f"at most paths, {self.paths}"),
            (0 <= self.min_right <= self.paths, "min_right", f"from 0 to paths, {self.paths}"),
            (
                all(1 <= size <= self.paths for size in self.readings),
                "readings",
                f"from 1 to paths, {self.paths}, each",
            ),
            (not self.parts or bool(self.readings), "parts", "given with readings only"),
            (self.min_correct <= self.max_correct, "min_correct", "at most max_correct"),
            (0 < self.threshold <= 1, "threshold", "above 0, at most 1"),
            (0 <= (self.wrong_share or 0) < 1, "wrong_share", "from 0 to below 1"),
            (self.timeout_s > 0, "timeout_s", "more than 0"),
            (
                self.summary != "template" or "{answer}" in self.summary_template,
                "summary_template",
                "a text with {answer} in it",
            ),
            (
                self.summaries is None or self.summary == "teacher",
                "summaries",
                "given with summary 'teacher' only",
            ),
            (
                self.tokenizer is not None or not any(getattr(self, name) for name in limits),
                "tokenizer",
                "given where a limit of tokens is",
            ),
            (
                set(self.benchmarks) <= set(BENCHMARKS),
                "benchmarks",
                f"of {', '.join(BENCHMARKS)}; others are files, for against",
            ),
        ]
        for good, name, allowed in checks:
            if not good:
                raise UsageError(f"{name} should be {allowed}; got {getattr(self, name)!r}")
        if self.keep == "right" and self.wrong_share:
            raise UsageError("wrong_share asks for wrong paths, but keep is 'right'")
