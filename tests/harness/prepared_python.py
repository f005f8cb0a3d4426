"""Modules run as programs, each in a process of its own that has imported torch already.

A fresh interpreter spends seconds of processor time on torch and transformers before a program
begins. Here they are imported once, by a server that forks; what a program itself imports is
imported as ever. What an interpreter does when it starts, as to look for `sitecustomize`, is not
done, nor is what was left to its end with `atexit`.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import IO, Final

_PREPARED: Final = ("torch", "transformers.models.llama.modeling_llama")
_CONTEXT: Final = get_context("forkserver")


class PreparedProcess:
    """A running `python -m module arguments…`, used as a `subprocess.Popen`."""

    def __init__(
        self, module: str, *arguments: str, cwd: str, stdout: IO[str], stderr: IO[str]
    ) -> None:
        _CONTEXT.set_forkserver_preload(list(_PREPARED))
        outputs = [
            Connection(os.dup(file.fileno()), readable=False)  # which can be sent to a process
            for file in (stdout, stderr)
        ]
        self._arguments = arguments
        self._process = _CONTEXT.Process(
            target=_run, args=(module, arguments, cwd, dict(os.environ), outputs)
        )
        self._process.start()
        for output in outputs:
            output.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None, "it has been started"
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self._process.exitcode is None:
            with suppress(ProcessLookupError):  # the server that forks has just buried it
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send a SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Return its exit code, which is negative after a signal.

        Raises:
            TimeoutExpired: it runs on.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        return self._process.exitcode


def run_prepared(module: str, *arguments: str, cwd: str, timeout_s: float) -> str:
    """Run a module as a program; return what it prints, once it has ended well."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        process = PreparedProcess(module, *arguments, cwd=cwd, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(timeout_s)
        finally:
            process.send_signal(signal.SIGKILL)
        for file in (stdout, stderr):
            file.seek(0)
        assert code == 0, stderr.read()
        return stdout.read()


def _run(
    module: str,
    arguments: tuple[str, ...],
    cwd: str,
    environment: Mapping[str, str],
    outputs: tuple[Connection, Connection],
) -> None:
    for stream, output in zip((sys.stdout, sys.stderr), outputs, strict=True):
        os.dup2(output.fileno(), stream.fileno())
        output.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
