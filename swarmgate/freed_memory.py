"""Memory that a process no longer needs goes back to the system.

Two libraries keep it by default. glibc raises the size from which it asks the system for each
block to that of the largest block freed so far, so that loading a model, one prompt or one
backward pass leaves its holes behind. oneDNN keeps the machine code of its 1,024 latest products,
half a mebibyte for each shape and number of rows. Measured in docs/decisions/0014.
"""

import ctypes
import gc
import os
import platform
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # of glibc's malloc.h
_M_MMAP_THRESHOLD: Final = -3

_MAPPED_BYTES: Final = 4 << 20
"""Blocks from this size on are mapped, and gone when freed. Tensors of decode steps and of most
chunks of prompts are smaller: mapping those anew costs a processor with AMX a tenth of their time.
"""

_SPARE_BYTES: Final = 16 << 20
"""What the end of a heap may keep, so that a step does not ask the system for what the last one
gave back."""

_KEPT_PRODUCTS: Final = 32
"""A Llama has four shapes of products: these are the last eight numbers of rows. Making one again
takes 0.1 ms."""

_COLLECTED_AFTER: Final = (20_000, 50, 100)
"""A server's thresholds, in new containers, and in collections of the generation below. What
tokens allocate is freed by counting; at Python's own 700 a server looks for cycles, and finds
none, a hundred times a second."""


def keep_little_memory() -> None:
    """Set both libraries up; call before the first thread starts and the first product runs.

    Where the C library is not glibc only oneDNN is told. An operator's own choice stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KEPT_PRODUCTS))
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def settle() -> None:
    """Call once everything is loaded: what lives now is taken to live as long as the process.

    The collector does not look at it again, and the holes that loading left go back.
    """
    gc.collect()
    gc.freeze()
    give_back()


def collect_rarely() -> None:
    """Let the collector look as rarely as suits a server, which makes hardly any cycles.

    Not for a gateway: connections are cycles, and its web server has thresholds of its own.
    """
    gc.set_threshold(*_COLLECTED_AFTER)


def give_back() -> None:
    """Return to the system what lies free between live blocks; a few milliseconds."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
