"""Builds a C file into a library for this very processor, once, and keeps it."""

import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import CDLL
from pathlib import Path
from typing import Final

_FLAGS: Final = (
    *("-O3", "-march=native", "-std=c11", "-shared", "-fPIC", "-fopenmp"),
    # One rounding for a product and its addition; not-a-number stays not-a-number.
    *("-ffp-contract=fast", "-fno-math-errno"),
)
_ANY_ORDER: Final = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")
"""Sums may be taken in any order, so that they vectorise."""

_TIMEOUT_S: Final = 60.0


class BuildError(Exception):
    """There is no compiler, or it does not do what it should. The message says which."""


def build_library(source: Path, cache: Path | None = None, *, keeps_order: bool = False) -> CDLL:
    """Return the loaded library of a C file; compiles it when the cache has no such build.

    Processes that build at the same time do not disturb each other.

    Args:
        source: the file.
        cache: where builds are kept; None is `.cache/swarmgate/kernels` at home.
        keeps_order: whether sums are taken in the order that is written.

    Raises:
        BuildError: see the class.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BuildError("no C compiler (cc, gcc or clang) on the path")
    flags = _FLAGS if keeps_order else (*_FLAGS, *_ANY_ORDER)
    read = [source, *sorted(source.parent.glob("*.h"))]  # it may include those beside it
    key = hashlib.sha256(b"".join(path.read_bytes() for path in read))
    key.update(repr((compiler, flags, _processor())).encode())
    cache = cache or Path.home() / ".cache" / "swarmgate" / "kernels"
    library = cache / f"{source.stem}-{key.hexdigest()[:24]}.so"
    try:
        if not library.exists():
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile([compiler, *flags], source, library)
        return CDLL(str(library))
    except OSError as error:
        raise BuildError(f"the library cannot be kept or loaded: {error}") from error


def _compile(compiler: Sequence[str], source: Path, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        command = [*compiler, "-o", str(built), str(source), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
        except subprocess.SubprocessError as error:
            raise BuildError(f"{Path(compiler[0]).name} cannot build {source.name}") from error
        built.replace(library)


def _processor() -> str:
    """Return what -march=native depends on, where the system tells."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor() or platform.machine()
    lines = facts.read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
