"""How fast a run is: tokens a second, model FLOPs utilisation, memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parathinker.modeling.config import DecoderConfig
from parathinker.training.flops import NO_WORK, Work, training_flops


class Meter:
    """Adds up the work of all batches, over the time that was not spent saving or sampling.

    Args:
        frozen: whether the base's weights are frozen (LoRA), which takes fewer operations.
        peak_flops: of one device, for the utilisation; None leaves it out.
    """

    def __init__(self, config: DecoderConfig, frozen: bool, peak_flops: float | None) -> None:
        self.config, self.frozen, self._peak = config, frozen, peak_flops
        self._work = NO_WORK
        self._since = time.perf_counter()

    def add(self, work: Work) -> None:
        """Count a batch of this device."""
        self._work += work

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began

    def read(self, accelerator: Any) -> dict[str, float]:
        """Figures since the last reading, of all devices together; all have to ask."""
        import torch

        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        flops = training_flops(self.config, self._work, self.frozen)
        local = torch.tensor([self._work.tokens, flops], device=accelerator.device)
        tokens, flops = accelerator.reduce(local.double().cpu(), "sum").tolist()
        self._work = NO_WORK
        figures = {"tokens_per_second": tokens / seconds, "peak_memory_gb": peak_memory() / 1e9}
        if self._peak is not None:
            figures["mfu"] = flops / seconds / (self._peak * accelerator.num_processes)
        return figures


_PEAKS = {
    "A100": 312e12,
    "A800": 312e12,
    "H100 80GB HBM3": 989e12,
    "H800": 989e12,
    "H200": 989e12,
}
"""Operations a second in dense bfloat16 by NVIDIA's data sheets, by part of the device's name."""


def known_peak(device: str, bf16: bool) -> float | None:
    """What a GPU of this name can do; None of one that is not known, or in another precision."""
    if not bf16:
        return None
    return next((peak for name, peak in _PEAKS.items() if name in device), None)


def peak_memory() -> int:
    """Most bytes held at once so far: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
