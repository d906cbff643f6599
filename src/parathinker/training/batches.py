"""A stage's data as a list of batches: item ``i`` is the same on every run and every machine.

An optimiser step takes ``batches_per_step`` items that follow each other, so who computes which of
them changes nothing, and a run that goes on skips items without making them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from parathinker.data.products_source import ProductsSource
from parathinker.data.schema import Example, read_examples
from parathinker.data.sums import SumsSource
from parathinker.errors import UsageError
from parathinker.prompt import PromptCodec
from parathinker.training.batch import IGNORED, EncodedExample, encode_example, pack
from parathinker.training.flops import graph_work, total_work
from parathinker.training.recipe import TASK_SOURCES, DataRecipe, StageRecipe

INDEX, WORK = "batch_index", "batch_work"
"""Keys of a batch that say which one it is, and its :class:`~parathinker.training.flops.Work`;
the model does not see them."""
OPEN_ROWS = 16
"""Batches that are filled side by side: more leave less room empty, and mix up the order more."""

SLACK = 8
"""Padding that stacking alike examples may cost, in tokens a segment."""

Say = Callable[[str], None]
Encode = Callable[[Example, random.Random], EncodedExample]


class Batches(Dataset[dict[str, Any]]):
    """A stage's data, a batch of about ``batch_tokens`` tokens an item."""

    def __init__(
        self,
        stage: StageRecipe,
        codec: PromptCodec,
        seed: int,
        summary_prefix: str = "",
        cache: Path | None = None,
        say: Say = lambda _: None,
        slack: int = SLACK,
    ) -> None:
        """Read the examples and count their tokens.

        Args:
            seed: of the order, the thought ids, and what a source draws.
            cache: a file that remembers the counts for the next time.
            say: called with what a person should know about the data.
            slack: padding that stacking alike examples may cost, in tokens a segment.

        Raises:
            UsageError: the recipe asks for what the files do not hold.
        """
        self._seed, self._stage, self._codec, self._slack = seed, stage, codec, slack

        def encode(example: Example, rng: random.Random) -> EncodedExample:
            if summary_prefix and example.summary is not None:
                # Data may bring the forced beginning along; it is not to be there twice.
                bare = example.summary.removeprefix(summary_prefix)
                example = dataclasses.replace(example, summary=bare)
            return encode_example(example, codec, rng, summary_prefix, stage.data.chain)

        self.source: Drawn | Epochs
        if stage.data.source in TASK_SOURCES:
            self.source = Drawn(stage, seed, encode, codec.control.max_paths)
        else:
            self.source = Epochs(stage, seed, encode, cache, say)
        if stage.steps is not None:
            self.steps = stage.steps
        else:
            assert stage.epochs is not None
            assert isinstance(self.source, Epochs)
            self.steps = self.source.steps(stage.epochs, stage.batches_per_step)

    def __len__(self) -> int:
        return self.steps * self._stage.batches_per_step

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded = [both[1] for both in self._fill(index)]
        pad = self._codec.control.pad
        if pad is None:
            pad = self._codec.control.summary_close
        batch = pack(encoded, pad, self._stage.summary_weight, self._slack)
        work = total_work(
            graph_work(e.graph, sum(label != IGNORED for part in e.labels for label in part))
            for e in encoded
        )
        return {**batch, INDEX: index, WORK: work}

    def examples(self, index: int) -> list[Example]:
        """What a batch is made of."""
        return [example for example, _ in self._fill(index)]

    def _fill(self, index: int) -> list[tuple[Example, EncodedExample]]:
        return self.source.fill(index, random.Random(f"{self._seed}/batch/{index}"))


_OF_TASKS: dict[str, Callable[..., ProductsSource | SumsSource]] = {
    "products": ProductsSource,
    "sums": SumsSource,
}


class Drawn:
    """Examples that a task makes, without end; those of a batch have one number of paths."""

    def __init__(self, stage: StageRecipe, seed: int, encode: Encode, max_paths: int) -> None:
        source = _OF_TASKS[stage.data.source]
        try:
            self._source = source(seed, max_paths=max_paths, **stage.data.options)
        except TypeError as error:
            raise UsageError(
                f"recipe: data.options do not fit source {stage.data.source}: {error}"
            ) from error
        self._limit = stage.data.fixed_examples or 2**40
        self._paths = stage.data.paths or (1,)
        self._budget, self._encode = stage.batch_tokens, encode

    def fill(self, _: int, rng: random.Random) -> list[tuple[Example, EncodedExample]]:
        """A batch's examples; ``rng`` is the batch's own."""
        paths = rng.choice(self._paths)
        filled: list[tuple[Example, EncodedExample]] = []
        tokens = 0
        while not filled or tokens + tokens // len(filled) <= self._budget:
            example = self._source.example(rng.randrange(self._limit), paths)
            filled.append((example, self._encode(example, rng)))
            tokens += filled[-1][1].graph.length
        return filled


class Epochs:
    """Examples from files: each once an epoch, in an order drawn from the seed."""

    def __init__(
        self, stage: StageRecipe, seed: int, encode: Encode, cache: Path | None, say: Say
    ) -> None:
        self._seed, self._encode, self._budget = seed, encode, stage.batch_tokens
        examples = _read(stage.data)
        # Thought ids are one token each, whichever they are: any will do to count.
        lengths = _remembered(
            cache, examples, lambda example: encode(example, random.Random(0)).graph.length
        )
        most = stage.data.max_tokens
        kept = [i for i, length in enumerate(lengths) if most is None or length <= most]
        if len(kept) < len(examples):
            say(
                f"{len(examples) - len(kept)} of {len(examples)} examples have more than "
                f"{most} tokens and are left out"
            )
        if not kept:
            raise UsageError(
                f"recipe: none of the examples has at most data.max_tokens ({most}) tokens; the "
                f"shortest has {min(lengths)}"
            )
        self.examples = [examples[i] for i in kept]
        self.lengths = [lengths[i] for i in kept]
        self._plan: list[list[int]] = []
        self._ends: list[int] = []

    def fill(self, index: int, rng: random.Random) -> list[tuple[Example, EncodedExample]]:
        """A batch's examples; ``rng`` is the batch's own."""
        while len(self._plan) <= index:
            self._plan_epoch()
        chosen = [self.examples[i] for i in self._plan[index]]
        return [(example, self._encode(example, rng)) for example in chosen]

    def steps(self, epochs: float, batches_per_step: int) -> int:
        """Optimiser steps of so many epochs."""
        whole, part = int(epochs), epochs - int(epochs)
        while len(self._ends) < math.ceil(epochs):
            self._plan_epoch()
        batches = float(self._ends[whole - 1] if whole else 0)
        if part:
            batches += part * (self._ends[whole] - batches)
        return max(1, math.ceil(batches / batches_per_step))

    def epoch_batches(self) -> int:
        """Batches of the first epoch."""
        if not self._ends:
            self._plan_epoch()
        return self._ends[0]

    def _plan_epoch(self) -> None:
        """Fill the next epoch's batches: each example goes to the first open one with room."""
        order = list(range(len(self.examples)))
        random.Random(f"{self._seed}/epoch/{len(self._ends)}").shuffle(order)
        rows: list[tuple[int, list[int]]] = []
        for i in order:
            length = self.lengths[i]
            for row, (tokens, members) in enumerate(rows):
                if tokens + length <= self._budget:
                    members.append(i)
                    rows[row] = tokens + length, members
                    break
            else:
                rows.append((length, [i]))
                if len(rows) > OPEN_ROWS:
                    # The fullest has the least to hope for.
                    self._plan.append(rows.pop(rows.index(max(rows)))[1])
        self._plan += [members for _, members in rows]
        self._ends.append(len(self._plan))


def _read(data: DataRecipe) -> list[Example]:
    examples: list[Example] = []
    for file in data.files:
        examples += read_examples(Path(file), split="train" if Path(file).is_dir() else None)
    found = sorted({len(example.paths) for example in examples})
    for count in data.paths:
        if count not in found:
            raise UsageError(
                f"recipe: data.paths asks for {count} paths, but the files only hold examples "
                f"with {found}"
            )
    if data.paths:
        examples = [example for example in examples if len(example.paths) in data.paths]
    if not examples:
        raise UsageError(f"recipe: {', '.join(data.files)} hold no examples")
    return examples[: data.fixed_examples]


def _remembered(
    cache: Path | None, examples: Sequence[Example], count: Callable[[Example], int]
) -> list[int]:
    """The examples' lengths, from the file where it is about the same texts."""
    if cache is None:
        return [count(example) for example in examples]
    digest = hashlib.sha256()
    # Two examples tell one tokenizer from another as well as all do, nearly: a new one has to
    # come with a new folder of the run anyway, because the recipe names the base.
    for example in examples:
        digest.update(repr((example.question, example.paths, example.summary)).encode())
    key = f"{digest.hexdigest()}/{count(examples[0])}/{count(examples[-1])}"
    if cache.is_file():
        try:
            known = json.loads(cache.read_text("utf-8"))
            if known["key"] == key and len(known["lengths"]) == len(examples):
                return [int(length) for length in known["lengths"]]
        except (ValueError, KeyError, TypeError):
            pass  # a damaged cache is made again
    lengths = [count(example) for example in examples]
    cache.write_text(json.dumps({"key": key, "lengths": lengths}), "utf-8")
    return lengths
