"""Examples to look at: a dataset's, or a store's samples before anything was built of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parathinker.data.build.sources import is_store
from parathinker.data.samples import SampleStore
from parathinker.data.schema import Example, PathText, read_examples

NOT_BUILT = "samples"
"""Stands for the split of what comes straight from a store."""


def examples_of(
    path: Path, split: str | None = None, tokenizer: Path | None = None
) -> Iterator[Example]:
    """A dataset's examples; of a store, an example for each question that has samples.

    Args:
        path: a dataset, a file of examples, or a store of samples.
        split: only examples of this split.
        tokenizer: for rows of token ids without a tokenizer beside them.

    Raises:
        UsageError: it is none of these.
    """
    if not is_store(path):
        yield from read_examples(path, split, tokenizer)
    elif split in (None, NOT_BUILT):
        yield from _of_store(path)


def _of_store(path: Path) -> Iterator[Example]:
    from parathinker.scoring import extract_answer

    with SampleStore(path) as store:
        for question in store.questions():
            paths = []
            for sample in store.samples(question.id):
                text = "\n\n".join(filter(None, (sample.reasoning, sample.answer)))
                answer = extract_answer(sample.answer or sample.reasoning)
                paths.append(PathText(text, answer=answer))
            if paths:
                yield Example(
                    question.question,
                    tuple(paths),
                    id=question.id,
                    answer=question.answer,
                    source=question.source,
                    split=NOT_BUILT,
                )
