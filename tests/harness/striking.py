"""Sends signals from a process of its own.

On some machines a kill takes ten milliseconds, and the client that is being measured, which is this
process, would stand still for them.
"""

import subprocess
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import psutil


class Striker(AbstractContextManager["Striker"]):
    """A shell that sends signals, inside the `with` block."""

    def __enter__(self) -> Self:
        self._shell = subprocess.Popen(["sh"], stdin=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shell.communicate()

    def send(self, signal_name: str, *processes: psutil.Process) -> None:
        """Send a signal, `KILL` or such, to those that still run; returns at once."""
        pids = [str(process.pid) for process in processes if process.is_running()]
        if pids:
            assert self._shell.stdin is not None, "made with a pipe"
            self._shell.stdin.write(f"kill -{signal_name} {' '.join(pids)} 2>/dev/null\n")
            self._shell.stdin.flush()
