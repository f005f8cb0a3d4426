"""A peer without blocks, by which others find the swarm."""

from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarmgate.service import print_ready


async def run_bootstrap(settings: NodeSettings) -> None:
    """Keep the peer until cancelled.

    Raises:
        NodeError: it cannot start or join, or its daemon has ended.
    """
    if settings.identity_path is not None:
        make_identity(settings.identity_path)
    node = await HivemindNode.start(settings)
    try:
        print_ready(peer_id=node.peer_id, maddrs=node.maddrs)
        await node.wait_stopped()
    finally:
        await node.close()
