"""What the documentation shows works: its Python blocks run, from top to bottom, as one session.

A comment before a block says what it needs that not every machine has: ``<!-- needs: cuda -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from parathinker import ParaThinker, UsageError
from tiny_models import CHAT_TEMPLATE, save_plain_model

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:^<!-- (.*?) -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _has_int8() -> bool:
    try:
        ParaThinker.from_pretrained("tiny", weights="int8")
    except UsageError:
        return False
    return True


NEEDS: dict[str, Callable[[], bool]] = {
    "int8": _has_int8,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}


def blocks(document: str) -> Iterator[tuple[str | None, str, int]]:
    """What a block needs, its code, and the line before its first."""
    text = (ROOT / document).read_text("utf-8")
    for found in BLOCK.finditer(text):
        comment = found[1]
        if comment is not None:
            assert comment.startswith("needs: "), f"{document}: unknown comment {comment!r}"
        yield (
            comment and comment.removeprefix("needs: "),
            found[2],
            text.count("\n", 0, found.start(2)),
        )


@pytest.mark.parametrize("document", ["README.md", "docs/usage.md"])
def test_python_blocks_run(
    document: str,
    random_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat = random_model("llama", chat_template=CHAT_TEMPLATE)
    (tmp_path / "my-chat-model").symlink_to(chat)
    (tmp_path / "my-base-model").mkdir()
    save_plain_model(tmp_path / "my-base-model")
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    ran = 0
    for need, code, line in blocks(document):
        if need is not None and not NEEDS[need]():
            continue
        exec(compile("\n" * line + code, document, "exec"), session)
        ran += 1
    assert ran


def test_every_python_block_is_found() -> None:
    for document in ("README.md", "docs/usage.md"):
        text = (ROOT / document).read_text("utf-8")
        assert len(list(blocks(document))) == text.count("```python")


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"),
        *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_links_inside_the_repository_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)?(?:#[^)]*)?\)", text):
        if target and "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


def test_links_inside_the_guide_lead_to_its_sections() -> None:
    text = (ROOT / "docs/usage.md").read_text("utf-8")
    sections = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.*)$", text, re.MULTILINE)
    }
    assert sections == set(re.findall(r"\]\(#([^)]*)\)", text))
