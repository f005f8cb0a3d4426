"""The gateway as a process: its identity, its ready line, its port, its node's health."""

import asyncio

from app.gateway import Gateway
from app.settings import Settings
from app.web_server import serve_gateway
from swarm_protocol.hivemind import HivemindNode, make_identity
from swarmgate.listening import open_listener
from swarmgate.service import print_ready


async def run_gateway(settings: Settings) -> None:
    """Serve until a signal, then drain.

    Raises:
        PortTakenError: another program listens on the port.
        NodeError: the libp2p daemon has ended, so no token can come back any more.
        SwarmError: a part of the gateway cannot start.
    """
    open_listener(settings.host, settings.port).close()  # for the sentence when it is taken
    if settings.identity is not None:
        make_identity(settings.identity)
    opened: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()

    def announce(gateway: Gateway, port: int) -> None:
        opened.set_result(gateway)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print_ready(
            url=f"http://{host}:{port}", peer_id=gateway.node.peer_id, maddrs=gateway.node.maddrs
        )

    serving = asyncio.ensure_future(serve_gateway(settings, announce))
    watching = asyncio.ensure_future(_watch_node(opened))
    try:
        done, _ = await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for task in (serving, watching):
            task.cancel()
        await asyncio.wait({serving, watching})


async def _watch_node(opened: asyncio.Future[Gateway]) -> None:
    node = (await opened).node
    assert isinstance(node, HivemindNode), "the gateway of a process is a real peer"
    await node.wait_stopped()
