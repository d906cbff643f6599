"""The machine's limits: how fast it reads memory, and how fast it multiplies matrices.

Both fluctuate on a machine that others use too, so they are probed again and again, next to what
is compared with them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parathinker.bench.figures import Column, Section, Spread
from parathinker.engine.memory import memory_of
from parathinker.engine.native import library
from parathinker.processors import default_threads, processor_facts, usable_processors

_METHODS_KEPT = 2
"""A probe tries so many of the ways to read that were fastest at first."""
_DEFAULT_CACHE = 32 * 2**20
_GRAIN = 2**20
_STREAMS, _COLUMNS = 16, 4096
"""How the bytes to read are arranged: as so many long rows, or as rows of so many numbers."""


@dataclass(frozen=True)
class Limits:
    """What the machine can do at its best, at one time."""

    bandwidth: float
    """Bytes read a second."""
    flops: float
    """Floating-point operations a second, of a matrix product in the model's dtype."""

    def mean(self, other: Limits) -> Limits:
        """Of a time that began with one and ended with the other."""
        return Limits(
            (self.bandwidth + other.bandwidth) / 2,
            (self.flops + other.flops) / 2,
        )

    def seconds(self, read: float, flops: float) -> float:
        """Least time for so many bytes and operations: the roofline."""
        return max(read / self.bandwidth, flops / self.flops)


class Machine:
    """Probes one device.

    Args:
        size: bytes to read; so many that no cache holds them.
        side: of the square matrices that are multiplied.
        threads: of the CPU; None for all processors that this process may use.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        size: int = 2**30,
        side: int = 2048,
        threads: int | None = None,
        repeats: int = 3,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.threads = threads or default_threads()
        # Whatever memory there is, the model needs most of it.
        self.size = min(size, memory_of(device) // 16) // _GRAIN * _GRAIN
        self.side = side
        self.probes: list[Limits] = []
        self._data = torch.ones(self.size // 4, device=device)
        self._a = torch.ones(side, side, device=device, dtype=dtype)
        self._readers = self._all_readers()
        self.by_method: dict[str, list[float]] = {name: [] for name in self._readers}
        self._survey(repeats)

    def probe(self) -> Limits:
        """Measure both limits now; takes a fraction of a second."""
        with self._all_threads():
            names = self._fastest()
            bandwidth = max(self._readers[name]() for name in (*names, *names))
            flops = max(self._multiply() for _ in range(2))
        self.probes.append(Limits(bandwidth, flops))
        return self.probes[-1]

    def _survey(self, repeats: int) -> None:
        """Find out which ways to read are fastest here."""
        with self._all_threads():
            for reader in self._readers.values():
                reader()
            self._multiply()
            for _ in range(repeats):
                for name, reader in self._readers.items():
                    self.by_method[name].append(reader())
        for _ in range(repeats):
            self.probe()

    def _fastest(self) -> list[str]:
        order = sorted(self.by_method, key=lambda name: -max(self.by_method[name]))
        return order[:_METHODS_KEPT]

    def _all_readers(self) -> dict[str, Callable[[], float]]:
        """Ways to read memory; each gives bytes a second."""
        x = self._data
        target = torch.empty_like(x[: len(x) // 2])
        streams = x.view(_STREAMS, -1)
        matrix = x.view(-1, _COLUMNS)
        row = torch.ones(matrix.shape[0], device=self.device)
        column = torch.ones(_COLUMNS, device=self.device)
        readers: dict[str, Callable[[], float]] = {
            "sum": lambda: self._rate(lambda: x.sum(), x.nbytes),
            "matrix × vector": lambda: self._rate(lambda: matrix @ column, x.nbytes),
            "vector × matrix": lambda: self._rate(lambda: row @ matrix, x.nbytes),
            f"sum of {_STREAMS} streams": lambda: self._rate(
                lambda: streams.sum(0), x.nbytes + x.nbytes // _STREAMS
            ),
            "copy": lambda: self._rate(lambda: target.copy_(x[: len(target)]), 2 * target.nbytes),
        }
        native = _native_reader()
        if native is not None and self.device.type == "cpu":
            readers["compiled kernels"] = lambda: float(native(self.size, self.threads))
        return readers

    def _multiply(self) -> float:
        return self._rate(lambda: self._a @ self._a, 2 * self.side**3)

    def _rate(self, work: Callable[[], object], amount: float) -> float:
        synchronize(self.device)
        began = time.perf_counter()
        work()
        synchronize(self.device)
        return amount / (time.perf_counter() - began)

    @contextmanager
    def _all_threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def section(machine: Machine) -> Section:
    """The machine's limits as a table."""
    rows: list[dict[str, Any]] = [
        {
            "what": f"read memory: {name}",
            "rate_G": Spread.of(v / 1e9 for v in values),
            "unit": "GB/s",
        }
        for name, values in machine.by_method.items()
    ]
    rows += [
        {
            "what": "read memory: best of a probe",
            "rate_G": Spread.of(p.bandwidth / 1e9 for p in machine.probes),
            "unit": "GB/s",
        },
        {
            "what": f"matrix product {machine.side}³, {str(machine.dtype).removeprefix('torch.')}",
            "rate_G": Spread.of(p.flops / 1e9 for p in machine.probes),
            "unit": "GFLOP/s",
        },
    ]
    columns = (Column("what", "what"), Column("rate_G", "rate", 1), Column("unit", "unit"))
    note = f"{machine.threads} threads, {machine.size / 2**20:,.0f} MiB read"
    return Section("machine", "What the machine can do", columns, list(rows), [note])


def describe() -> dict[str, Any]:
    """The machine and what runs on it, for the report's head."""
    return {
        "processor": processor(),
        "processors": usable_processors(),
        "cache_bytes": cache_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """The processor's name and its units that matter here."""
    facts = processor_facts()
    if not facts:
        return platform.processor() or platform.machine()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    has = [flag for flag in wanted if flag in facts.get("flags", "").split()]
    return ", ".join([facts.get("model name", platform.machine()), *has])


def cache_bytes() -> int:
    """Size of the processor's last cache: weights that fit into it are not read from memory."""
    files = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    units = {"K": 2**10, "M": 2**20}
    texts = [file.read_text("ascii").strip() for file in files]
    sizes = [int(text[:-1]) * units[text[-1]] for text in texts if text[-1:] in units]
    return max(sizes, default=_DEFAULT_CACHE)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _native_reader() -> Callable[[int, int], float] | None:
    """``read_bandwidth(size, threads)``, bytes a second, where there are compiled kernels."""
    return library.read_bandwidth if library.available() else None
