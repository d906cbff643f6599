"""Putting the stores of several shards together into one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Question
from parathinker.errors import UsageError


def merge(stores: Sequence[str | Path], into: str | Path) -> int:
    """Put the questions, samples and failures of several stores into one; merging again is safe.

    What several have (by question and index) is kept once, a sample before a failure. Questions
    come in the order they would have in a store without shards.

    Returns:
        How many samples were new to ``into``.

    Raises:
        UsageError: no stores; settings that differ in more than the shard; questions with one id
            and different texts; ``into`` is one of the stores.
    """
    if not stores:
        raise UsageError("there is nothing to merge: give the shards' files")
    if Path(into).resolve() in {Path(path).resolve() for path in stores}:
        raise UsageError(f"{into} is one of the stores to merge; name another file to merge into")
    common: SamplingSettings | None = None
    questions: dict[str, tuple[int, Question]] = {}
    for path in stores:
        with SampleStore(path) as store:
            settings = dataclasses.replace(store.settings, shard=None)
            differences = [] if common is None else common.differences(settings)
            if differences:
                raise UsageError(
                    f"{path} was made with other settings than {stores[0]}: "
                    f"{'; '.join(differences)}"
                )
            common = settings
            for place, question in store.placed_questions():
                _, known = questions.setdefault(question.id, (place, question))
                if known.question != question.question:
                    raise UsageError(f"{path}: question {question.id} has another text elsewhere")
    assert common is not None
    ordered = [question for _, question in sorted(questions.values(), key=itemgetter(0))]
    new = 0
    with SampleStore.begin(into, common, ordered, complete=False) as merged:
        for path in stores:
            with SampleStore(path) as store:
                new += _add_in_batches(merged, store.samples())
                merged.add_failures(*store.failures())
    return new


def _add_in_batches(store: SampleStore, samples: Iterator[Sample]) -> int:
    """A transaction for many: a merge can be repeated, so it need not be safe at every sample."""
    new, batch = 0, []
    for sample in samples:
        batch.append(sample)
        if len(batch) == 256:
            new += store.add(*batch)
            batch = []
    return new + store.add(*batch)
