"""What a build did: all settings and counts, as ``build.json`` has them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.tally import DroppedQuestion, Tally
from parathinker.data.schema import Example


@dataclass
class SplitCounts:
    """What one file holds."""

    examples: int = 0
    paths: int = 0
    right: int = 0
    wrong: int = 0
    learned: int = 0
    """Paths that the loss covers."""
    summaries: int = 0
    path_characters: int = 0

    def add(self, example: Example) -> None:
        """Count an example in."""
        self.examples += 1
        self.paths += len(example.paths)
        self.right += sum(path.correct is True for path in example.paths)
        self.wrong += sum(path.correct is False for path in example.paths)
        self.learned += sum(path.learn for path in example.paths)
        self.summaries += example.summary is not None
        self.path_characters += sum(len(path.text) for path in example.paths)


@dataclass
class BuildReport:
    """All that there is to say of a build. The same input and settings give the same report."""

    settings: BuildSettings
    inputs: tuple[str, ...]
    """Names of the files that it was built from."""
    versions: dict[str, str]
    questions: int = 0
    """Different ones in all inputs."""
    verdicts: Counter[str] = field(default_factory=Counter)
    tallies: list[Tally] = field(default_factory=list)
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    """Examples by the source of their question."""
    dropped: list[DroppedQuestion] = field(default_factory=list)
    checked: int = 0
    """Answers that were checked in this run; the others were known. Not in ``build.json``."""

    def count(self, example: Example) -> None:
        """Count an example in."""
        self.splits.setdefault(example.split, SplitCounts()).add(example)
        self.sources[example.source or "unknown"] += 1

    def to_dict(self) -> dict[str, Any]:
        """As ``build.json`` has it."""
        return {
            "inputs": list(self.inputs),
            "settings": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self.settings).items()
            },
            "versions": self.versions,
            "questions": self.questions,
            "samples": dict(sorted(self.verdicts.items())),
            "steps": [tally.to_dict() for tally in self.tallies],
            "splits": {name: asdict(counts) for name, counts in sorted(self.splits.items())},
            "sources": dict(sorted(self.sources.items())),
        }
