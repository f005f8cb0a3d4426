"""`swarmgate` as a real process, with everything it starts, and its certain end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from urllib.request import urlopen

import psutil

from tests.harness.prepared_python import PreparedProcess

ROOT: Final = Path(__file__).resolve().parents[2]
DEMO_MODEL: Final = "models/demo"


class Program:
    """A running `swarmgate …`. Leaving its `with` block ends it and all it started.

    Its output, stdout and stderr together, is in `lines` as it comes.
    """

    def __init__(self, *arguments: str, is_prepared: bool = False) -> None:
        """Start it; in an interpreter that has imported torch already, if told so."""
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._has_ended = False
        read_end, write_end = os.pipe()
        self._output = os.fdopen(read_end)
        with os.fdopen(write_end, "w") as output:
            self._process = (_start_prepared if is_prepared else _start)(arguments, output)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        family = self.family()
        self._process.terminate()
        psutil.wait_procs(family, timeout=20)
        for process in family:
            if process.is_running():
                process.kill()
        self._process.wait(10)
        self._reader.join(10)
        self._output.close()

    @property
    def output(self) -> str:
        """Everything it has printed so far."""
        return "".join(self.lines)

    def wait_for(self, text: str, *, timeout_s: float) -> str:
        """Return the first line that contains `text`, as soon as it is there."""
        with self._more:
            self._more.wait_for(
                lambda: self._line_with(text) is not None or self._has_ended, timeout_s
            )
            line = self._line_with(text)
        assert line is not None, f"no {text!r} in:\n{self.output}"
        return line

    def family(self) -> list[psutil.Process]:
        """Return it and all its descendants, as far as they live."""
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self._process.send_signal(number)

    def wait(self, *, timeout_s: float) -> int:
        """Return its exit code once it has ended and all of its output is in `lines`."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def _line_with(self, text: str) -> str | None:
        return next((line for line in self.lines if text in line), None)

    def _read(self) -> None:
        for line in self._output:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._has_ended = True
            self._more.notify_all()


def _start(arguments: Sequence[str], output: IO[str]) -> "subprocess.Popen[str] | PreparedProcess":
    return subprocess.Popen(
        [sys.executable, "-m", "swarmgate", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        text=True,
    )


def _start_prepared(arguments: Sequence[str], output: IO[str]) -> PreparedProcess:
    return PreparedProcess("swarmgate", *arguments, cwd=str(ROOT), stdout=output, stderr=output)


@contextmanager
def running_swarm(*options: str, timeout_s: float = 60) -> Iterator[tuple[Program, str]]:
    """Run `swarmgate up` on a free port; yield it, when a token came back, and the URL."""
    port = free_port()
    with Program("up", "--port", str(port), "--model", DEMO_MODEL, *options) as program:
        program.wait_for("first token after", timeout_s=timeout_s)
        yield program, f"http://127.0.0.1:{port}"


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def get_json(url: str) -> Any:
    """Return the JSON answer to a GET request."""
    with urlopen(url, timeout=10) as response:
        return json.load(response)


def still_alive(processes: Sequence[psutil.Process], *, timeout_s: float) -> list[str]:
    """Wait for processes to end; return the command lines of those that have not."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return [" ".join(process.cmdline()) for process in alive if not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    """Tell whether it has ended and only waits for somebody to ask how."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
