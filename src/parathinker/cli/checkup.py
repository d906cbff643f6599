"""The checks behind ``parathinker doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass

from packaging.requirements import Requirement
from rich.console import Console

from parathinker import ThinkingParams, __version__
from parathinker.errors import ParaThinkerError
from parathinker.modeling.folders import EMBEDDED, embedded_models
from parathinker.processors import default_threads, has_bfloat16_units, usable_processors

OK, MISSING, BROKEN = "ok", "missing", "broken"
_NOT_FOR_USERS = ("dev",)
"""Extras that only work on this package itself needs."""
_REINSTALL = "pip install --force-reinstall parathinker"


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: str
    """``ok``; ``missing``: something optional is not there; ``broken``: thinking needs it."""
    detail: str
    fix: str = ""
    """What to do about it."""


def run_checks(console: Console) -> list[Check]:
    """Look at everything; no check that fails keeps the others from being made."""
    return [_python(), *_torch(), *_extras(), *_models(), _terminal(console)]


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("Python", OK, f"{detail}, parathinker {__version__}")


def _torch() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [
            Check("PyTorch", BROKEN, f"cannot be imported: {error}", "pip install 'torch>=2.6'")
        ]
    capability = torch.backends.cpu.get_cpu_capability()
    cores, threads = usable_processors(), default_threads()
    cpu = f"{cores} of {os.cpu_count()} cores may be used, {capability}"
    if has_bfloat16_units() is False:
        cpu += ", no bfloat16 units"
    if threads != cores:
        cpu += f"; OMP_NUM_THREADS asks for {threads}"
    checks = [Check("PyTorch", OK, torch.__version__), Check("CPU", OK, cpu), *_engine()]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        checks.append(Check("CUDA", OK, ", ".join(names)))
    else:
        built = torch.version.cuda is not None
        why = "no device found" if built else "this PyTorch is built without CUDA"
        checks.append(Check("CUDA", MISSING, f"{why}; the CPU is used"))
    mps = torch.backends.mps.is_available()
    checks.append(Check("MPS", OK if mps else MISSING, "there" if mps else "not on this machine"))
    return checks


def _engine() -> list[Check]:
    """What computes on the CPU, and how much memory it may take."""
    import torch

    from parathinker.engine.memory import DEFAULT_SHARE, memory_of
    from parathinker.engine.native import library

    why_not = library.missing_reason()
    if why_not is None:
        engine = Check("engine", OK, f"compiled CPU kernels, built for {library.build_name()}")
    else:
        fix = "" if library.SWITCH in why_not else f"with a C++ compiler at hand: {_REINSTALL}"
        engine = Check("engine", MISSING, f"PyTorch computes, which is slower: {why_not}", fix)
    memory = memory_of(torch.device("cpu")) / 2**30
    share = f"{DEFAULT_SHARE:.0%} of {memory:,.1f} GiB; --kv-cache-memory sets it"
    return [
        engine,
        Check("KV memory", OK, f"{DEFAULT_SHARE * memory:,.1f} GiB by default, {share}"),
    ]


def _extras() -> list[Check]:
    """The package's optional extras, by what its own metadata asks for."""
    try:
        metadata = importlib.metadata.metadata("parathinker")
        requirements = [Requirement(r) for r in importlib.metadata.requires("parathinker") or []]
    except importlib.metadata.PackageNotFoundError:
        return [
            Check(
                "extras",
                MISSING,
                "unknown: parathinker runs from its source without being installed",
                "pip install -e .",
            )
        ]
    checks = []
    for extra in metadata.get_all("Provides-Extra") or []:
        if extra in _NOT_FOR_USERS:
            continue
        wanted = [
            r
            for r in requirements
            if r.marker is not None
            and r.marker.evaluate({"extra": extra})
            and not r.marker.evaluate({"extra": ""})
        ]
        lacking = [said for r in wanted if (said := _lack(r))]
        if lacking:
            fix = f"pip install 'parathinker[{extra}]'"
            checks.append(Check(f"extra {extra}", MISSING, f"lacks {', '.join(lacking)}", fix))
        else:
            checks.append(Check(f"extra {extra}", OK, ", ".join(r.name for r in wanted)))
    return checks


def _lack(requirement: Requirement) -> str | None:
    """What is wrong with an installed package, None if nothing is."""
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return requirement.name
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} {requirement.specifier} (found {found})"


def _models() -> list[Check]:
    """Load every embedded model and have it think one token."""
    names = embedded_models()
    if not names:
        return [Check("models", BROKEN, "no model is embedded in this installation", _REINSTALL)]
    return [_think_once(name) for name in names]


def _think_once(name: str) -> Check:
    label = f"model {name}"
    began = time.perf_counter()
    try:
        from parathinker import ParaThinker

        model = ParaThinker.from_pretrained(EMBEDDED / name, device="cpu")
        loaded = time.perf_counter()
        model.think("1", ThinkingParams(paths=1, max_path_tokens=1, max_summary_tokens=1))
    except (ParaThinkerError, ImportError, OSError, RuntimeError) as error:
        return Check(label, BROKEN, str(error), _REINSTALL)
    thought = time.perf_counter() - loaded
    return Check(label, OK, f"loads in {loaded - began:.2f} s, thinks a token in {thought:.2f} s")


def _terminal(console: Console) -> Check:
    if not console.is_terminal:
        return Check("terminal", MISSING, "the output is no terminal: answers come as plain text")
    colours = console.color_system or "no"
    size = f"{console.width} × {console.height}, {colours} colours, {console.encoding}"
    if console.is_dumb_terminal:
        return Check("terminal", MISSING, f"{size}; too simple for the live view")
    return Check("terminal", OK, size)
