"""What teachers wrote, as sources publish it, in a store of samples: no teacher need be asked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from parathinker.data.files import whole
from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Question
from parathinker.data.sources.gather import Gathered, Watch, gather
from parathinker.data.sources.reading import SourceOptions, public_name
from parathinker.data.sources.teacher_text import TeacherText, split_reasoning
from parathinker.errors import UsageError

UNKNOWN_MODEL = "unknown"
SAMPLES_AT_A_TIME = 500
"""In one transaction; each waits for the disk."""


def gather_samples(
    sources: list[str], options: SourceOptions, store: Path, watch: Watch | None = None
) -> tuple[Gathered, int]:
    """Gather questions, and put what teachers wrote about them into a store of samples.

    The store is there whole or not at all, in place of one that was there. Only questions that some
    teacher wrote about go into it; where several sources have a question, it gets what all of them
    hold. Samples have no token counts or times, and the settings they were made with are unknown:
    the store's say so.

    Returns:
        The questions of all sources, and how many samples there are.

    Raises:
        UsageError: the sources hold nothing of teachers.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {store}: {error.strerror}") from error
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=store.parent) as spool:

        def keep(question_id: str, source: str, texts: list[TeacherText]) -> None:
            line = (question_id, source, [asdict(text) for text in texts])
            spool.write(json.dumps(line) + "\n")

        gathered = gather(sources, options, watch, keep)
        if not gathered.questions:
            return gathered, 0
        return gathered, _write_store(store, gathered.questions, spool)


def _write_store(store: Path, questions: list[Question], spool: IO[str]) -> int:
    samples = Counter[str]()
    models: set[str] = set()
    for question_id, _, text in _texts(spool):
        samples[question_id] += 1
        models.add(text.model or UNKNOWN_MODEL)
    known = [question for question in questions if samples[question.id]]
    if not known:
        raise UsageError(
            "the sources hold nothing that teachers wrote, so --with-samples has nothing to write; "
            "`parathinker data sample` asks a teacher"
        )
    settings = SamplingSettings(
        models=tuple(sorted(models)),
        paths=max(samples[question.id] for question in known),
        seed=None,
        extra={"published": "made with settings of their own, which are not recorded"},
    )
    with whole(store) as partial:
        with SampleStore.begin(partial, settings, known) as new:
            count = 0
            batch: list[Sample] = []
            for sample in _samples(spool, {question.id for question in known}):
                batch.append(sample)
                if len(batch) == SAMPLES_AT_A_TIME:
                    count += new.add(*batch)
                    batch.clear()
            count += new.add(*batch)
        for left in ("-wal", "-shm"):  # of the store that this one replaces
            store.with_name(store.name + left).unlink(missing_ok=True)
    return count


def _samples(spool: IO[str], wanted: set[str]) -> Iterator[Sample]:
    indexes = Counter[str]()
    for question_id, source, text in _texts(spool):
        if question_id not in wanted:
            continue
        reasoning, answer = split_reasoning(text.text)
        yield Sample(
            question_id=question_id,
            index=indexes[question_id],
            reasoning=reasoning,
            answer=answer,
            finish_reason=text.finish_reason,
            model=text.model or UNKNOWN_MODEL,
            endpoint=f"published in {public_name(source)}",
            prompt_tokens=0,
            completion_tokens=0,
            seconds=0.0,
            seed=None,
        )
        indexes[question_id] += 1


def _texts(spool: IO[str]) -> Iterator[tuple[str, str, TeacherText]]:
    """All texts with their question's id and source; one that comes again is passed over."""
    seen: set[bytes] = set()
    spool.seek(0)
    for line in spool:
        question_id, source, texts = json.loads(line)
        for raw in texts:
            key = hashlib.sha256(f"{question_id}/{raw['text']}".encode()).digest()[:16]
            if key not in seen:
                seen.add(key)
                yield question_id, source, TeacherText(**raw)
