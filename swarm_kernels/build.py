"""Builds C files into a library for this very processor, once, and keeps it."""

import fcntl
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL
from functools import cache
from pathlib import Path
from typing import Final

from swarm_protocol.logs import get_logger

log = get_logger(__name__)

HEADERS: Final = Path(__file__).parent
"""Where the headers are that all kernels share."""

_FLAGS: Final = (
    *("-O3", "-std=c11", "-shared", "-fPIC"),
    # One rounding for a product and its addition; else sums are taken in the order that is written.
    *("-ffp-contract=fast", "-fno-math-errno"),
)

_THIS_PROCESSOR: Final = ("-march=native", "-mcpu=native")
"""Two ways to say so: not every compiler knows the first for every processor."""

_THREADS: Final = "-fopenmp"

_TIMEOUT_S: Final = 60.0

_ROOM_BYTES: Final = 1024 * 1024
"""More than a library takes. Without that room no choice of flags would help."""


class BuildError(Exception):
    """There is no compiler, or it does not do what it should. The message says which."""


def build_library(*sources: Path, cache: Path | None = None, target: str | None = None) -> CDLL:
    """Return the loaded library of some C files; compiles them when the cache has no such build.

    A compiler that knows nothing of this processor builds for all of its kind, one without OpenMP
    for one thread; the log says so. Of processes that want the same at once one compiles, and the
    others wait for it.

    Args:
        sources: the files; the library is named after the first. They may include headers beside
            them, and those of this package.
        cache: where builds are kept; None is `.cache/swarmgate/kernels` at home.
        target: the compiler's flag for another processor than this very one.

    Raises:
        BuildError: see the class.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BuildError("no C compiler (cc, gcc or clang) on the path")
    choices = _choices(target)
    read = [*sources, *_headers_of(sources)]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in read))
    key.update(repr((compiler, _FLAGS, choices, describe_processor())).encode())
    cache = cache or Path.home() / ".cache" / "swarmgate" / "kernels"
    library = cache / f"{sources[0].stem}-{key.hexdigest()[:24]}.so"
    try:
        if not library.exists():
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(cache / f"{sources[0].stem}.lock"):
                if not library.exists():
                    _compile(compiler, choices, sources, library)
        return CDLL(str(library))
    except OSError as error:
        raise BuildError(f"the library cannot be kept or loaded: {error}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others out meanwhile, where the file system can; what they build is the same anyway."""
    with path.open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _choices(target: str | None) -> list[tuple[str, ...]]:
    """Return the flags to try, best first: one thread costs more than short vectors."""
    targets = [(flag,) for flag in _THIS_PROCESSOR] + [()] if target is None else [(target,)]
    return [(*flags, _THREADS) for flags in targets] + targets


def _headers_of(sources: Sequence[Path]) -> list[Path]:
    directories = {HEADERS, *(source.parent for source in sources)}
    return sorted(header for directory in directories for header in directory.glob("*.h"))


def _compile(
    compiler: str, choices: Sequence[tuple[str, ...]], sources: Sequence[Path], library: Path
) -> None:
    """Build `library` with the first choice of flags that the compiler can do."""
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        built.write_bytes(bytes(_ROOM_BYTES))
        for flags in choices:
            command = [compiler, *_FLAGS, *flags, "-I", str(HEADERS), "-o", str(built)]
            if _can_run([*command, *map(str, sources), "-lm"]):
                if flags != choices[0]:
                    log.warning("kernel_built_with_less", kernel=sources[0].stem, flags=flags)
                built.replace(library)
                return
    raise BuildError(f"{Path(compiler).name} cannot build {sources[0].name}")


def _can_run(command: Sequence[str]) -> bool:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.SubprocessError:
        return False
    return True


@cache
def describe_processor() -> str:
    """Return the processor's name and abilities, in the system's words, where it tells them."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor() or platform.machine()
    lines = facts.read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
