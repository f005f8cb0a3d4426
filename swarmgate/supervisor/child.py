"""One process of a private swarm: its ready line, its end, its last words."""

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Never

from swarm_protocol.parent_death import die_with_parent
from swarmgate.errors import ChildDiedError

_TAIL_BYTES: Final = 4096
_MAX_LAST_LINE: Final = 300


class Child:
    """A running `swarmgate gateway` or `swarmgate serve`, which dies with this process.

    stderr goes to `log_path`, or where ours goes when that is None.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log_path = log
        self._facts: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        log_path: Path | None,
        *,
        environment: Mapping[str, str] = os.environ,
        inherited_fds: Iterable[int] = (),
    ) -> "Child":
        """Start the process. Call from the main thread: the kernel watches the starting thread."""
        log = sys.stderr if log_path is None else log_path.open("wb")
        try:
            process = await asyncio.create_subprocess_exec(
                *die_with_parent(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C goes to the foreground group; ours reach the children in due order.
                start_new_session=True,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                pass_fds=tuple(inherited_fds),
            )
        finally:
            if log is not sys.stderr:
                log.close()
        return cls(name, process, log_path)

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def ready(self) -> dict[str, Any]:
        """Return the facts of the ready line once it has come; `watch` must be running."""
        return await asyncio.shield(self._facts)

    async def watch(self) -> Never:
        """Read what the process prints, until it ends.

        Raises:
            ChildDiedError: always, when it has ended.
        """
        assert self._process.stdout is not None, "created with a pipe"
        async for line in self._process.stdout:
            self._note(line)
        returncode = await self._process.wait()
        was_killed = returncode < 0  # then it had no time for last words
        raise ChildDiedError(self.name, returncode, None if was_killed else self._last_line())

    def terminate(self) -> None:
        """Ask it to drain and end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Wait for its end."""
        await self._process.wait()

    def _note(self, line: bytes) -> None:
        with suppress(ValueError):
            facts = json.loads(line)
            if isinstance(facts, dict) and facts.get("ready") and not self._facts.done():
                self._facts.set_result(facts)

    def _last_line(self) -> str | None:
        if self._log_path is None:
            return None  # it stands above on the terminal
        tail = self._log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        return lines[-1].removeprefix("swarmgate: ")[:_MAX_LAST_LINE] if lines else None


async def end_all(children: Sequence[Child], *, grace_s: float) -> None:
    """Let every process drain, and kill those that take too long.

    Being cancelled, by a signal while it waits, means to hurry: everything is killed at once and
    the caller goes on with what it was doing.
    """
    if not children:
        return
    for child in children:
        child.terminate()
    ends = {asyncio.ensure_future(child.wait()) for child in children}
    with suppress(asyncio.CancelledError):
        await asyncio.wait(ends, timeout=grace_s)
    for child in children:
        child.kill()
    await asyncio.wait(ends)
