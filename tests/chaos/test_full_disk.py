"""A server whose disk is full when it starts."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.programs import DEMO_MODEL, Program

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk without room, on which caches and temporary files are to be kept."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a disk takes a privilege that is not here")
    try:
        with suppress(OSError), (tmp_path / "filling").open("wb", buffering=0) as filling:
            while True:
                filling.write(bytes(1024))
        assert shutil.disk_usage(tmp_path).free == 0
        for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_server_that_can_keep_nothing_serves_without_its_faster_ways(full_disk: Path) -> None:
    """It says at start what it lacks."""
    with Program("serve", DEMO_MODEL, "--new-swarm", "--threads", "1") as server:
        server.wait_for('"ready": true', timeout_s=40)

        assert "attention_kernel_unavailable" in server.output


def test_a_key_that_cannot_be_kept_is_one_sentence(full_disk: Path) -> None:
    """A peer id that changes unnoticed would be worse than none."""
    key = full_disk / "key"
    with Program("serve", DEMO_MODEL, "--new-swarm", "--identity", str(key)) as server:
        assert server.wait(timeout_s=40) == 1

    assert server.output == (
        f"swarmgate: cannot use the identity file {key}: No space left on device\n"
    )
