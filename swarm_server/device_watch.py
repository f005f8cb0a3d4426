"""Whether the device still computes at all, asked whenever a batch has failed on it.

After some faults (an illegal address, an uncorrectable error of its memory) a GPU refuses all that
a process asks of it from then on, and only another process may use it again. One batch, or many in
a row, may also fail for what peers have sent: that is no reason to leave.
"""

import asyncio
from functools import partial
from typing import Never

import torch

from swarm_protocol.logs import get_logger
from swarm_server.engine import ComputeThread
from swarm_server.errors import DeviceBrokenError

log = get_logger(__name__)


async def wait_broken(device: str, batch_failed: asyncio.Event, compute: ComputeThread) -> Never:
    """Wait until the device does not even add two numbers.

    Args:
        device: of torch.
        batch_failed: set when a batch has failed; cleared here.
        compute: the thread that uses the device.

    Raises:
        DeviceBrokenError: it does not.
    """
    while True:
        await batch_failed.wait()
        batch_failed.clear()
        try:
            await compute.run(partial(_add, device))
        except torch.OutOfMemoryError:
            continue  # it works, for others
        except Exception as error:
            log.error("device_broken", device=device, error=type(error).__name__)
            raise DeviceBrokenError(device) from error


def _add(device: str) -> None:
    torch.ones(1, device=device).add(1.0).item()
