"""Fixtures shared by all tests: tiny random models, made once a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RandomModel = Callable[..., Path]
_measured: dict[str, float] = {}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads, and test workers run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    """``random_model(model_type, tied=…, max_paths=…, …)``: a saved model's folder, made once."""
    from tiny_models import save_random_model

    made: dict[str, Path] = {}

    def make(model_type: str = "llama", **options: Any) -> Path:
        key = repr((model_type, sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(model_type)
            made[key] = save_random_model(folder, model_type, **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_random_model(random_model: RandomModel) -> Path:
    """A two-layer Llama with P_max 8, byte-level tokens and large thought embeddings."""
    return random_model("llama")


@pytest.fixture(scope="session")
def measured() -> Callable[[str, float], None]:
    """Note a figure's largest value; the session's end lists them."""

    def note(name: str, value: float) -> None:
        _measured[name] = max(value, _measured.get(name, value))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _measured:
        terminalreporter.section("measured")
        for name, value in sorted(_measured.items()):
            terminalreporter.write_line(f"{name}: {value:.2e}")
