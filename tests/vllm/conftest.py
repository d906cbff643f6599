"""Models on vLLM, started once a session; where vLLM is not installed, their tests say so."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from vllm_models import BLOCK, Start

from parathinker import ParaThinker

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

QUICK: dict[str, Any] = {"enforce_eager": True, "max_num_seqs": 32, "block_size": BLOCK}
"""Compiling takes minutes, and is tested by itself."""


def installed() -> bool:
    """Whether vLLM is here; this folder's own name is not it."""
    spec = importlib.util.find_spec("vllm")
    return spec is not None and spec.origin is not None


@pytest.fixture(scope="session")
def needs_vllm() -> None:
    if not installed():
        pytest.skip("vLLM is not installed here; `make test-vllm` makes an environment that has it")


@pytest.fixture(scope="session")
def start(needs_vllm: None) -> Iterator[Start]:
    """``start(folder, …)``: the folder's model on vLLM; the last one asked for stays up."""
    running: dict[str, ParaThinker] = {}

    def starting(folder: Path, **options: Any) -> ParaThinker:
        key = repr((folder, sorted(options.items())))
        if key not in running:
            for model in running.values():
                model.close()
            running.clear()
            running[key] = ParaThinker.from_pretrained(
                folder, backend="vllm", **{**QUICK, **options}
            )
        return running[key]

    yield starting
    for model in running.values():
        model.close()


@pytest.fixture(scope="session")
def folder(random_model: Callable[..., Path]) -> Path:
    """A two-layer Llama with heads of a size that vLLM has CPU kernels for."""
    return random_model("llama", head_dim=32, max_paths=16)


@pytest.fixture(scope="session")
def native() -> Callable[[Path], ParaThinker]:
    """The same folder's model on the native engine."""
    return cache(ParaThinker.from_pretrained)
