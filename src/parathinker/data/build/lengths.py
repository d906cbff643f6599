"""How long an example is for a model: in tokens, and in positions."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parathinker.data.schema import Example
from parathinker.errors import CheckpointError, UsageError
from parathinker.graph import ThoughtGraph
from parathinker.prompt import PromptCodec
from parathinker.tokens import add_control_tokens

_TOKENIZER_FILES = ("tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Lengths:
    """Tokens of an example's segments, control tokens included."""

    prompt: int
    paths: tuple[int, ...]
    summary: int | None
    total: int
    """All tokens together: what a batch holds."""
    positions: int
    """The largest position plus one: what a context window has to hold."""


class TokenCounter:
    """Counts with a model's tokenizer and chat template.

    Args:
        folder: the model's; a tokenizer without control tokens is counted as if it had them.

    Raises:
        UsageError: the folder has no tokenizer.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            self._codec = PromptCodec.from_folder(Path(folder))
        except CheckpointError:
            try:
                self._codec = _with_control_tokens(Path(folder))
            except CheckpointError as error:
                raise UsageError(f"tokenizer: {error}") from error

    def prompt(self, question: str) -> int:
        """Tokens of a question in the chat template."""
        return len(self._codec.encode_question(question))

    def path(self, text: str) -> int:
        """Tokens of a path, its opening and its closing token among them."""
        return len(self._codec.encode_text(text)) + 2

    def summary(self, text: str) -> int:
        """Tokens of a summary, likewise."""
        return len(self._codec.encode_text(text)) + 2

    def example(self, example: Example) -> Lengths:
        """All lengths of an example."""
        summary = None if example.summary is None else self.summary(example.summary)
        paths = tuple(self.path(path.text) for path in example.paths)
        return lengths(self.prompt(example.question), paths, summary)


def lengths(prompt: int, paths: tuple[int, ...], summary: int | None) -> Lengths:
    """An example's lengths from those of its segments, as the graph of them has it."""
    graph = ThoughtGraph.parallel(prompt, [(i, n) for i, n in enumerate(paths, 1)], summary)
    ends = [graph.end(i) for i in range(len(graph.segments))]
    return Lengths(prompt, paths, summary, graph.length, max(ends))


def _with_control_tokens(folder: Path) -> PromptCodec:
    """The codec of a tokenizer to which control tokens are added, in a copy."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json")
    try:
        json.loads(file.read_text("utf-8"))
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{file} cannot be read as a tokenizer: {error}") from error
    add_control_tokens(tokenizer)
    with tempfile.TemporaryDirectory(prefix="parathinker-") as copy:
        tokenizer.save(str(Path(copy) / "tokenizer.json"))
        for name in _TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(copy) / name)
        return PromptCodec.from_folder(Path(copy))
