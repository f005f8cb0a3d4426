"""A library is built with the best flags that a compiler knows, or it is said that it is not."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarm_kernels import BuildError, build_library

SOURCE = """
int has_threads(void) {
#ifdef _OPENMP
    return 1;
#endif
    return 0;
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.c"
    path.write_text(SOURCE)
    return path


def use_compiler(monkeypatch: pytest.MonkeyPatch, directory: Path, refused: str) -> None:
    """Put a compiler in front of this machine's own that ends when flags match a pattern."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    directory.mkdir()
    front = directory / "cc"
    front.write_text(
        f'#!/bin/sh\nfor flag; do case "$flag" in {refused}) exit 1;; esac; done\n'
        f'exec {compiler} "$@"\n'
    )
    front.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory), prepend=":")


def test_a_compiler_that_does_not_know_the_processor_builds_for_all_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    """Such as an old one on a new machine; threads are left."""
    use_compiler(monkeypatch, tmp_path / "bin", "-m*=native")

    library = build_library(source, cache=tmp_path / "cache")

    assert library.has_threads() == 1


def test_a_compiler_without_openmp_builds_for_one_thread(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    """Such as Apple's."""
    use_compiler(monkeypatch, tmp_path / "bin", "-fopenmp")

    library = build_library(source, cache=tmp_path / "cache")

    assert library.has_threads() == 0


def test_a_lesser_build_is_made_once(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    """The next process does not try again what the compiler cannot do."""
    use_compiler(monkeypatch, tmp_path / "bin", "-fopenmp")
    build_library(source, cache=tmp_path / "cache")
    (tmp_path / "bin" / "cc").write_text("#!/bin/sh\nexit 1\n")

    library = build_library(source, cache=tmp_path / "cache")

    assert library.has_threads() == 0


def test_of_many_that_want_the_same_one_compiles(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    """Servers and a gateway that start at once would take each other's cores."""
    use_compiler(monkeypatch, tmp_path / "bin", "refused")
    front, calls = tmp_path / "bin" / "cc", tmp_path / "calls"
    front.write_text(front.read_text().replace("#!/bin/sh", f"#!/bin/sh\necho >> {calls}"))

    with ThreadPoolExecutor(4) as threads:
        wanted = [threads.submit(build_library, source, cache=tmp_path / "cache") for _ in range(4)]

    assert all(library.result().has_threads() == 1 for library in wanted)
    assert calls.read_text() == "\n"


def test_a_compiler_that_cannot_build_is_named(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    """Whoever asked for the kernel goes another way, and its log says why."""
    use_compiler(monkeypatch, tmp_path / "bin", "*")

    with pytest.raises(BuildError, match=r"cc cannot build kernel\.c"):
        build_library(source, cache=tmp_path / "cache")


def test_a_source_that_is_no_c_is_not_built(source: Path, tmp_path: Path) -> None:
    """No library is left behind."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    source.write_text("int has_threads(void) {")

    with pytest.raises(BuildError):
        build_library(source, cache=tmp_path / "cache")

    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kernel.lock"]
