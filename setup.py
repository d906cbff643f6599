"""Builds the C++ library, once for each kind of processor; pyproject.toml has all the rest.

Where there is no compiler the package installs without it and computes in PyTorch.
"""

from __future__ import annotations

import copy
import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("src/parathinker/engine/native/src")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-pthread",
    "-fvisibility=hidden",
    # Multiply-adds are fused wherever the processor can, so that all tiles round alike.
    "-ffp-contract=fast",
    # Python asks for wrapping integers, which keep the tiles from knowing their addresses.
    "-fno-wrapv",
]
BUILDS = {"generic": []}
if platform.machine() in ("x86_64", "AMD64"):
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = [
        *BUILDS["avx2"],
        *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni")),
    ]


class BuildLibraries(build_ext):
    """Plain shared libraries, loaded by ctypes: no Python in their names, nothing to export."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or min(len(BUILDS), os.cpu_count() or 1)

    def build_extension(self, ext: Extension) -> None:
        # The builds have the same sources: each needs a folder of its own for what it compiles.
        one = copy.copy(self)
        one.build_temp = os.path.join(self.build_temp, ext.name)
        super(BuildLibraries, one).build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


def extension(name: str, flags: list[str]) -> Extension:
    return Extension(
        f"parathinker.engine.native._{name}",
        sources=[path.as_posix() for path in sorted(SOURCES.glob("*.cpp"))],
        depends=["setup.py", *(path.as_posix() for path in sorted(SOURCES.glob("*.h")))],
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=["-pthread"],
        language="c++",
        optional=True,
    )


setup(
    # The sources keep to what GCC and Clang share.
    ext_modules=[]
    if sys.platform == "win32"
    else [extension(name, flags) for name, flags in BUILDS.items()],
    cmdclass={"build_ext": BuildLibraries},
)
