"""Models for runs of the command line: random weights that write letters only."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from sampling import questions_file
from tokenizers import Tokenizer

from parathinker.cli import main
from parathinker.tokens import ControlTokens

EXAMPLES = [
    {"question": "What is 12 * 12?", "answer": "144"},
    {"question": "What is 7 * 8?", "answer": "56"},
]


def only_letters(source: Path, folder: Path, closing: bool) -> Path:
    """A copy of an untied model in which only letters, and perhaps closing tokens, have logits.

    Those of all others are zero, which the likeliest letters exceed: sample with ``--top-k 5``.
    """
    shutil.copytree(source, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    kept = [tokenizer.token_to_id(c) for c in (*string.ascii_lowercase, "Ġ", "Ċ")]
    control = ControlTokens.find(tokenizer.get_vocab())
    if closing:
        kept += [*control.closes, control.summary_close]
    tensors = load_file(folder / "model.safetensors")
    head = tensors["lm_head.weight"].clone()
    tensors["lm_head.weight"] = head.new_zeros(head.shape)
    tensors["lm_head.weight"][kept] = head[kept]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def letters_model(
    random_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Writes letters; its paths close after a while. Made for a task, with example problems."""
    source = random_model("llama", tied=False, closing=1.0)
    folder = only_letters(source, tmp_path_factory.mktemp("letters") / "model", closing=True)
    config = json.loads((folder / "config.json").read_text())
    config["parathinker"] = {"task": "products", "max_path_tokens": 60, "max_summary_tokens": 90}
    (folder / "config.json").write_text(json.dumps(config))
    lines = "".join(json.dumps(example) + "\n" for example in EXAMPLES)
    (folder / "examples.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="session")
def endless_model(
    random_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Writes letters and never comes to an end by itself."""
    source = random_model("llama", tied=False, closing=1.0)
    return only_letters(source, tmp_path_factory.mktemp("endless") / "model", closing=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``run("ask", "hello")``: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        return code, output, errors

    return call


@pytest.fixture
def asked_for(tmp_path: Path) -> Path:
    """Ten questions in a file."""
    return questions_file(tmp_path / "questions.jsonl", 10)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "samples.sqlite"
