"""A run that computes NaN or infinity stops before its weights do, and says on which batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parathinker.data.schema import write_examples
from parathinker.errors import ParaThinkerError
from parathinker.training import distributed
from parathinker.training.batches import Batches

FOLDER = "bad-batches"


class DivergedError(ParaThinkerError):
    """Training computed NaN or infinity; weights and checkpoints are as they were before."""

    def __init__(self, message: str, batch: Path) -> None:
        super().__init__(message)
        self.batch = batch
        """JSONL of the examples that it happened on."""


def diverged(
    what: str, value: float, step: int, indices: Sequence[int], batches: Batches, folder: Path
) -> DivergedError:
    """Save the batches it happened on, and say where.

    Args:
        what: the loss, or the gradient's norm.
        step: the optimiser step under way, from 1.
        indices: of its batches on this device, in ``batches``.
        folder: the stage's.
    """
    rank = "" if distributed.world_size() == 1 else f"-of-process-{_rank()}"
    file = folder / FOLDER / f"step-{step}{rank}.jsonl"
    examples = [example for index in indices for example in batches.examples(index)]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_examples(file, examples)
    numbers = ", ".join(map(str, indices))
    return DivergedError(
        f"the {what} is {value} in step {step} (batch {numbers}); training stopped before the "
        f"weights changed. The {len(examples)} examples are in {file}: look at them with "
        f"'parathinker data inspect {file}'. Checkpoints are as they were; a rerun goes on from "
        "the last one, and will stop here again unless the recipe changes (a lower learning_rate, "
        "more warm-up) or these examples are taken out",
        file,
    )


def _rank() -> int:
    import os

    return int(os.environ.get("RANK", "0"))
