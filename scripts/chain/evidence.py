"""What a kill left behind, and what the rerun made of it."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chain.ledger import ChainError
from parathinker.data.samples import SampleStore
from parathinker.data.schema import Question
from parathinker.data.teacher.asking import seed_of

_STEP = re.compile(r": step (\d+)/\d+ +loss ([\d.]+)")


def rows(file: Path, table: str) -> int:
    """Rows in a database that another process may be writing; 0 if there is none yet."""
    if not file.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as db:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:  # its tables are being made right now
        return 0


@dataclass(frozen=True)
class Asking:
    """Who was asked for what, by the teacher's own log: a path's seed names it."""

    wanted: int
    requests: int
    """That the teacher got for them."""
    stored_at_kill: int
    in_flight_at_kill: int
    """Asked for, and not in the store when the job was killed."""
    twice: int
    """Paths that it was asked for more than once."""


@dataclass(frozen=True)
class Interruption:
    """How teacher and store stood when a job was broken off: seeds, each of a path."""

    asked: frozenset[int]
    stored: frozenset[int]

    @property
    def in_flight(self) -> frozenset[int]:
        """What was asked for and did not arrive."""
        return self.asked - self.stored


def wanted_seeds(questions: Sequence[Question], paths: int) -> set[int]:
    """The seeds that `data sample` without ``--seed`` gives to the paths of questions."""
    seeds = (seed_of(0, question.id, index) for question in questions for index in range(paths))
    return {seed for seed in seeds if seed is not None}


def asking(wanted: Set[int], asked: Counter[int], interruptions: Sequence[Interruption]) -> Asking:
    """Count what was asked.

    Args:
        wanted: the seeds of all paths.
        asked: how often the teacher was asked with each seed, these and others.
        interruptions: in their order; the first one is the kill.

    Raises:
        ChainError: a path was never asked for, or again although it was not in flight.
    """
    ours = Counter({seed: count for seed, count in asked.items() if seed in wanted})
    allowed = Counter(wanted)
    for one in interruptions:
        allowed.update(one.in_flight & wanted)
    too_often = sum(count > allowed[seed] for seed, count in ours.items())
    if too_often or len(ours) < len(wanted):
        raise ChainError(
            f"of {len(wanted)} paths, {len(wanted) - len(ours)} were never asked for, and "
            f"{too_often} were asked for again although they were not in flight"
        )
    kill = interruptions[0]
    again = sum(count > 1 for count in ours.values())
    return Asking(
        len(wanted), ours.total(), len(kill.stored & wanted), len(kill.in_flight & wanted), again
    )


def stored_seeds(store: Path) -> list[int]:
    """The seeds of all samples in a store."""
    with SampleStore(store) as opened:
        return [sample.seed for sample in opened.samples() if sample.seed is not None]


def logged_losses(log: str) -> dict[int, str]:
    """The losses of a training log by step, as it prints them."""
    return {int(step): loss for step, loss in _STEP.findall(log)}


@dataclass(frozen=True)
class Resumption:
    """Where a run that was killed went on."""

    killed_at: int
    """The last step it had logged."""
    checkpoint: int
    went_on_from: int
    repeated: int
    """Steps that both runs computed."""
    same_losses: bool
    """Whether both logged the same losses for these."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def resumption(before: dict[int, str], after: dict[int, str], checkpoint: int) -> Resumption:
    """Compare the losses that were logged before the kill and after it.

    Raises:
        ChainError: the run did not go on from the checkpoint, or with other losses.
    """
    first, both = min(after), sorted(before.keys() & after.keys())
    same = all(before[step] == after[step] for step in both)
    found = Resumption(max(before), checkpoint, first - 1, len(both), same)
    if first != checkpoint + 1 or not same:
        raise ChainError(f"training did not go on exactly: {found}")
    return found
