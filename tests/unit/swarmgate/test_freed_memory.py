"""What a process gives back to the system. In processes of their own, which it sets up."""

import platform
import subprocess
import sys

import pytest

MEASURED = """
import ctypes
from swarmgate.freed_memory import give_back, keep_little_memory, settle

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def allocate(num_blocks, size):
    blocks = [libc.malloc(size) for _ in range(num_blocks)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks

"""

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator"
)


def run_python(source: str) -> str:
    command = [sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_glibc
def test_large_blocks_are_gone_when_freed() -> None:
    """Also after one of 30 MiB: glibc alone would then keep all smaller ones."""
    left_mib = run_python(
        MEASURED + "keep_little_memory()\n"
        "libc.free(allocate(1, 30 << 20)[0])\n"
        "before = resident_mib()\n"
        "blocks = allocate(20, 5 << 20)\n"
        "for block in blocks[:-1]: libc.free(block)\n"
        "print(resident_mib() - before)"
    )

    assert float(left_mib) < 10


@needs_glibc
def test_holes_between_small_blocks_go_back_when_asked_for() -> None:
    """Every tenth block of 256 KiB lives on."""
    freed_mib = run_python(
        MEASURED + "keep_little_memory()\n"
        "blocks = allocate(200, 256 << 10)\n"
        "for i, block in enumerate(blocks):\n"
        "    if i % 10: libc.free(block)\n"
        "before = resident_mib()\n"
        "give_back()\n"
        "print(before - resident_mib())"
    )

    assert float(freed_mib) > 40


def test_the_number_of_kept_products_is_the_operator_s_when_he_has_chosen() -> None:
    """The variable is oneDNN's own."""
    chosen = run_python(
        "import os\n"
        "from swarmgate.freed_memory import keep_little_memory\n"
        "keep_little_memory()\n"
        "ours = os.environ.pop('ONEDNN_PRIMITIVE_CACHE_CAPACITY')\n"
        "os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'] = '500'\n"
        "keep_little_memory()\n"
        "print(ours, os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    )

    assert chosen == "32 500"


def test_the_collector_leaves_alone_what_was_there_when_the_process_settled() -> None:
    """A full collection of a server's 240,000 objects is a pause of 100 ms."""
    counts = run_python(
        "import gc\n"
        "from swarmgate.freed_memory import settle\n"
        "settle()\n"
        "print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000)"
    )

    assert counts == "True True"


def test_settling_leaves_the_collector_s_pace_to_whoever_knows_it() -> None:
    """A gateway's web server has chosen its own; connections leave cycles, servers hardly any."""
    paces = run_python(
        "import gc\n"
        "from swarmgate.freed_memory import collect_rarely, settle\n"
        "gc.set_threshold(5000, 20, 10)\n"
        "settle()\n"
        "print(gc.get_threshold())\n"
        "collect_rarely()\n"
        "print(gc.get_threshold() > (5000, 20, 10))"
    )

    assert paces.splitlines() == ["(5000, 20, 10)", "True"]
