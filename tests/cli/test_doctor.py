"""``parathinker doctor``: it tells the truth about the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parathinker.engine.native import library
from parathinker.modeling.folders import embedded_models

Run = Callable[..., tuple[int, str, str]]


def test_report_covers_the_environment(run: Run) -> None:
    code, output, _ = run("doctor", "--json")
    report = json.loads(output)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["PyTorch"]["detail"] == torch.__version__
    assert (checks["engine"]["status"] == "ok") == library.available()
    assert "GiB by default" in checks["KV memory"]["detail"]
    assert (checks["CUDA"]["status"] == "ok") == torch.cuda.is_available()
    for name in embedded_models():
        assert checks[f"model {name}"]["status"] == "ok"
    assert checks["terminal"]["status"] == "missing"
    assert report["ok"] == all(check["status"] != "broken" for check in report["checks"])
    assert code == (0 if report["ok"] else 1)


def test_threads_that_the_environment_asks_for_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked in (True, False):
        monkeypatch.setenv("OMP_NUM_THREADS", "77" if asked else "")
        _, output, _ = run("doctor", "--json")
        [cpu] = [c["detail"] for c in json.loads(output)["checks"] if c["name"] == "CPU"]
        assert ("OMP_NUM_THREADS asks for 77" in cpu) == asked


def test_text_says_the_same(run: Run) -> None:
    code, output, _ = run("doctor")
    assert torch.__version__ in output
    assert ("Ready to think." in output) == (code == 0)


def test_engine_that_is_switched_off_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARATHINKER_NATIVE", "0")
    code, output, _ = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert code == 0
    assert checks["engine"]["status"] == "missing"
    assert "PARATHINKER_NATIVE=0" in checks["engine"]["detail"]


def test_broken_pytorch_is_named_and_fails(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch is damaged')")
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "parathinker", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        timeout=60,
    )
    assert done.returncode == 1
    assert "libtorch is damaged" in done.stdout
    assert "pip install 'torch" in done.stdout
    assert "Traceback" not in done.stderr


def test_missing_extra_is_told_with_its_pip_command(tmp_path: Path) -> None:
    info = tmp_path / "parathinker-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: parathinker\nVersion: 0.1.0\n"
        "Provides-Extra: here\nRequires-Dist: rich>=1; extra == 'here'\n"
        "Provides-Extra: gone\nRequires-Dist: no-such-package; extra == 'gone'\n"
        "Requires-Dist: rich>=999; extra == 'gone'\n"
    )
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "parathinker", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        timeout=60,
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["extra here"]["status"] == "ok"
    assert checks["extra gone"]["status"] == "missing"
    assert "no-such-package, rich >=999 (found" in checks["extra gone"]["detail"]
    assert checks["extra gone"]["fix"] == "pip install 'parathinker[gone]'"
