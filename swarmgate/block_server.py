"""A block server as a process: its node, its blocks, and their orderly end."""

from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from swarmgate.service import print_ready


async def run_block_server(node_settings: NodeSettings, settings: ServerSettings) -> None:
    """Serve blocks until cancelled, then drain.

    Raises:
        NodeError: it cannot join the swarm, or its daemon has ended.
        CheckpointError: the model cannot be loaded.
    """
    if node_settings.identity_path is not None:
        make_identity(node_settings.identity_path)
    node = await HivemindNode.start(node_settings)
    try:
        server = await BlockServer.start(node, settings)
        try:
            print_ready(
                peer_id=server.peer_id,
                maddrs=node.maddrs,
                blocks=str(server.blocks),
                model=server.model,
            )
            await node.wait_stopped()
        finally:
            await server.drain()
            await server.close()
    finally:
        await node.close()
