"""Fixtures shared by all tests: tiny random models, made once a session."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from native_cases import RandomModel

# Time says nothing about an example where test workers share cores.
settings.register_profile(
    "shared cores", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared cores")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell's background job ignores Ctrl-C, and so would whatever a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

MEASURED = "measured"


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


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """``measured(name, value)`` notes a figure; its worst value is listed when the session ends.

    The worst is the largest, or the smallest with ``least=True``.
    """

    def note(name: str, value: float, least: bool = False) -> None:
        record_property(MEASURED, (name, value, least))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    worst: dict[str, float] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, figure in report.user_properties if report.when == "call" else ():
            if key == MEASURED:
                name, value, least = figure
                worst[name] = (min if least else max)(value, worst.get(name, value))
    if worst:
        terminalreporter.section("measured")
        for name, value in sorted(worst.items()):
            terminalreporter.write_line(f"{name}: {value:.2e}")
