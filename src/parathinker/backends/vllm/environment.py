"""What vLLM and its processes find around them when they start."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from parathinker.errors import UsageError

RUNNER = "VLLM_USE_V2_MODEL_RUNNER"


def prepare_environment() -> None:
    """Set what vLLM reads when it is first imported; its processes inherit it.

    Raises:
        UsageError: what is set already is not supported.
    """
    # Standard output is the user's.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # Left to itself vLLM takes the second runner where Triton works, and that takes no samplers.
    runner = os.environ.setdefault(RUNNER, "0")
    if runner != "0":
        raise UsageError(
            f"{RUNNER}={runner} in the environment is refused: vLLM's second model runner does not "
            "take our sampler; unset it, or set it to 0"
        )


@contextmanager
def interrupts_kept_from_children() -> Iterator[None]:
    """Processes that this thread starts in here never get a SIGINT.

    A terminal's Ctrl-C reaches all of its processes, and vLLM's would end at once, with all that is
    under way. They end when we say so.
    """
    # The tracker is multiprocessing's first child, and starting it clears the mask.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
