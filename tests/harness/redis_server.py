"""A real Redis for one test: own port, own directory, gone afterwards."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class RedisServer:
    """A redis-server on loopback that can be killed, restarted on its port, and frozen.

    It dies with the process that started it, even when that is killed with -9 (on Linux).

    Attributes:
        url: address with database 0, and the password if there is one.
    """

    def __init__(self, directory: str, *, password: str | None, keeps_data: bool) -> None:
        port = _free_port()
        credentials = "" if password is None else f":{password}@"
        self.url = f"redis://{credentials}127.0.0.1:{port}/0"
        self._command = [
            *(("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()),
            *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", directory),
            *("--save", "", "--appendonly", "yes" if keeps_data else "no"),
            *("--appendfsync", "always"),
            *(() if password is None else ("--requirepass", password)),
        ]
        self._start()

    def kill(self) -> None:
        """End the process at once, as a crash would; idempotent."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def restart(self) -> None:
        """Start again on the same port, after `kill`; the data is kept only if asked for."""
        self._start()

    def freeze(self) -> None:
        """Stop answering without closing a connection."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._process.send_signal(signal.SIGCONT)

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._log = self._process.stdout
        lines = []
        for line in self._log:
            lines.append(line)
            if "Ready to accept connections" in line:
                return
        self.kill()
        raise RuntimeError("redis-server did not start:\n" + "".join(lines))


@contextmanager
def redis_server(*, password: str | None = None, keeps_data: bool = False) -> Iterator[RedisServer]:
    """Run a Redis in a temporary directory.

    Args:
        password: what clients must present; part of the `url`.
        keeps_data: whether a restarted server knows what it knew (append-only file).
    """
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(directory, password=password, keeps_data=keeps_data)
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
