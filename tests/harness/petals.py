"""The real Petals release, in its own environment, as a counterpart in tests.

`make interop` (and `make test`) set the environment up where the counterpart's scripts stand beside
the project; elsewhere the tests that need it are skipped.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".petals-venv/bin/python"
SCRIPT = ROOT.parent / "shared/petals-interop/interop.py"

_END_S: Final = 20.0

REASON_ABSENT = "the Petals counterpart is not installed beside the project"


def is_installed() -> bool:
    """Tell whether the release can be run here."""
    return PYTHON.exists() and SCRIPT.exists()


def write_old_config(model: Path) -> None:
    """Let the release's transformers (4.34) read the config of a model that a newer one saved."""
    path = model / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None) or {}
    config |= {"rope_theta": rope.get("rope_theta", 10000.0), "torch_dtype": config.pop("dtype")}
    path.write_text(json.dumps(config))


@dataclass(frozen=True, slots=True)
class PetalsPeer:
    """A running DHT node or server of the release."""

    peer_id: str
    maddrs: tuple[str, ...]


async def run_program(*arguments: str, timeout_s: float = 60) -> None:
    """Run the release's Python to its end; programs find its `petals_compat` by PYTHONPATH."""
    with TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            *("-W", "ignore", *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(SCRIPT.parent)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        finally:
            await _end(process)
        log.seek(0)
        said = log.read().decode(errors="replace")
    assert process.returncode == 0, f"the release's program failed: {said[-2000:]}"


async def run(*arguments: str, timeout_s: float = 60) -> dict[str, Any]:
    """Run one command of the release to its end and return what it prints."""
    process = await _start(*arguments)
    assert process.stdout is not None
    output = asyncio.ensure_future(process.stdout.read())
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    finally:
        await _end(process)
    return _last_json(await output)


@asynccontextmanager
async def running(*arguments: str, timeout_s: float = 60) -> AsyncIterator[PetalsPeer]:
    """Keep a `dht` or `server` of the release running for the time of the block."""
    process = await _start(*arguments)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            ready = _last_json(await process.stdout.readline())
        yield PetalsPeer(ready["peer_id"], tuple(ready["maddrs"]))
    finally:
        with suppress(ProcessLookupError, TimeoutError):
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(_END_S):
                await process.wait()
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a program and all that it has left behind: its forked DHT and its daemon outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        PYTHON,
        SCRIPT,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


def _last_json(output: bytes) -> dict[str, Any]:
    lines: Sequence[bytes] = output.splitlines() or [b"null"]
    value = json.loads(lines[-1])
    assert isinstance(value, dict), f"the release printed {output!r:.200}"
    return value
