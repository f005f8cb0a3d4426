"""Kernels as other processors of this kind get them: with shorter vectors."""

import platform
from ctypes import CDLL
from pathlib import Path
from typing import Final

import pytest

from swarm_kernels import BuildError, build_library

SHORTER_VECTORS: Final = ("-march=haswell", "-march=x86-64")
"""Of 256 bits and of 128, the latter without one rounding for a product and its addition."""


def library_for(target: str, *sources: Path) -> CDLL:
    """Return what `build_library` builds for such processors; skips where it cannot run."""
    if platform.machine() != "x86_64":
        pytest.skip("not a processor of this kind")
    if target == "-march=haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has shorter vectors")
    try:
        return build_library(*sources, target=target)
    except BuildError as error:
        pytest.skip(str(error))
