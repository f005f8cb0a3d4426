"""What a process does beside its work: notice the end of its node, give memory back."""

import asyncio
from contextlib import suppress
from typing import Final, Never

from swarm_protocol.hivemind import HivemindNode
from swarmgate.freed_memory import give_back

_GIVE_BACK_PERIOD_S: Final = 10.0


async def watch_node(node: HivemindNode) -> Never:
    """Give memory back now and then, until the node's daemon has ended.

    Raises:
        NodeError: it has.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_PERIOD_S):
                await node.wait_stopped()
        await asyncio.to_thread(give_back)
