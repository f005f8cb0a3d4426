"""A block server as a process: its node, its blocks, its memory, and their orderly end."""

import asyncio
import sys
from typing import Final

from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from swarmgate.freed_memory import collect_rarely, keep_little_memory, settle
from swarmgate.service import print_ready
from swarmgate.watched_node import watch_node

_SWITCH_INTERVAL_S: Final = 1e-4
"""How long a thread may keep the interpreter from others. Those of the compute thread and of
training are short between their products, and what they keep waiting is every session: with 64 on
a GPU, Python's own 5 ms cost 4 % of the tokens."""


async def run_block_server(node_settings: NodeSettings, settings: ServerSettings) -> None:
    """Serve blocks until cancelled, then drain.

    Raises:
        NodeError: it cannot join the swarm, or its daemon has ended.
        CheckpointError: the model cannot be loaded.
        DeviceBrokenError: its device computes nothing any more.
    """
    keep_little_memory()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    if node_settings.identity_path is not None:
        make_identity(node_settings.identity_path)
    node = await HivemindNode.start(node_settings)
    try:
        server = await BlockServer.start(node, settings)
        try:
            settle()
            collect_rarely()
            print_ready(
                peer_id=server.peer_id,
                maddrs=node.maddrs,
                blocks=str(server.blocks),
                model=server.model,
            )
            await _watch(node, server)
        finally:
            await server.drain()
            await server.close()
    finally:
        await node.close()


async def _watch(node: HivemindNode, server: BlockServer) -> None:
    """Wait until the process cannot go on; raises why."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch_node(node))
            tasks.create_task(server.wait_broken())
    except BaseExceptionGroup as group:  # callers know the plain error
        raise group.exceptions[0] from group
