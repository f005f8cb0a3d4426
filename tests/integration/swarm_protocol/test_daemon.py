"""The daemon as a process that says things, and ends."""

import asyncio
import sys

from swarm_protocol.hivemind.daemon import Daemon


async def test_its_end_is_noticed_whatever_it_has_said() -> None:
    """A line of any length is read, so that the daemon need not wait for a reader."""
    say = f"print('x' * 1_000_000); print('Peer ID: q'); print('y' * {2**16}, end='')"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", say), stdout=asyncio.subprocess.PIPE
    )
    daemon = Daemon(process, "/unix/tmp/no-daemon.sock")

    async with asyncio.timeout(10):
        await daemon.stopped.wait()

    await daemon.stop()
