"""What a run was made with is told as it is."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from parathinker.evaluation import models
from parathinker.evaluation.models import model_identity, sampled_blocks
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.surroundings import commit_of, processor, surroundings


def git(folder: Path, *arguments: str) -> None:
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_that_of_the_packages_own_repository(tmp_path: Path) -> None:
    package = tmp_path / ".venv" / "package"
    package.mkdir(parents=True)
    installed, own = package / "run.py", tmp_path / "run.py"
    for file in (installed, own):
        file.write_text("")
    assert commit_of(own) is None
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text(".venv")
    git(tmp_path, "add", "run.py", ".gitignore")
    git(tmp_path, "commit", "-m", "one")
    assert re.fullmatch(r"[0-9a-f]{12}", commit_of(own) or "")
    assert commit_of(installed) is None, "another's repository, in which it was installed"
    own.write_text("changed")
    assert (commit_of(own) or "").endswith("-dirty")


def test_a_backend_that_is_a_package_is_among_the_versions() -> None:
    assert "vllm" not in surroundings()["versions"]
    assert "vllm" in surroundings("vllm")["versions"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others name no model")
def test_the_processor_has_a_name() -> None:
    assert processor()
    assert surroundings()["processor"] == processor()


def test_settings_can_be_read_and_run_again(tmp_path: Path) -> None:
    settings = EvalSettings(
        methods=("parallel:termination=last-finish", "sequential"),
        paths=(1, 4),
        temperature=0.5,
        prompt="Löse: {question}",
        task_options={"digits": "2"},
        engine_args={"max_model_len": 512},
    )
    settings.write(tmp_path / "settings.yaml")
    assert EvalSettings.from_yaml(tmp_path / "settings.yaml") == settings
    assert "temperature: 0.5" in (tmp_path / "settings.yaml").read_text("utf-8").splitlines()


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 399, 400, 401, 4_000])
def test_files_are_read_whole_or_in_blocks_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(models, "_BLOCK", 100)
    monkeypatch.setattr(models, "_BLOCKS", 4)
    blocks = sampled_blocks(size)
    read = {at for begin in blocks for at in range(begin, min(size, begin + 100))}
    assert len(blocks) <= 4
    if size <= 400:
        assert read == set(range(size))
    else:
        assert {0, size - 1} <= read
        assert len(read) > 300


def test_weights_that_differ_in_the_middle_are_another_model(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    size = 8 * 2**20
    weights.write_bytes(bytes(size))
    before = model_identity(str(tmp_path))
    assert model_identity(str(tmp_path)) == before
    with weights.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"x")
    assert model_identity(str(tmp_path)) != before
