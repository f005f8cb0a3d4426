"""The gateway as a process: its identity, its ready line, its port, its node's health."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.gateway import Gateway, open_gateway
from app.settings import Settings
from app.web_server import serve_gateway
from swarm_protocol.errors import SwarmError
from swarm_protocol.hivemind import HivemindNode, make_identity
from swarmgate.freed_memory import keep_little_memory, settle
from swarmgate.listening import open_listener
from swarmgate.service import print_ready
from swarmgate.watched_node import watch_node


async def run_gateway(settings: Settings, *, listener: socket.socket | None = None) -> None:
    """Serve until a signal, then drain.

    Args:
        listener: see `serve_gateway`.

    Raises:
        PortTakenError: another program listens on the port.
        NodeError: the libp2p daemon has ended, so no token can come back any more.
        SwarmError: a part of the gateway cannot start.
    """
    keep_little_memory()
    if listener is None:  # here, for the sentence when the port is taken
        listener = open_listener(settings.host.strip("[]"), settings.port)
    if settings.identity is not None:
        make_identity(settings.identity)

    def announce(gateway: Gateway, port: int) -> None:
        settle()
        node = gateway.node
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print_ready(url=f"http://{host}:{port}", peer_id=node.peer_id, maddrs=node.maddrs)

    failure: BaseException | None = None
    try:
        await serve_gateway(settings, announce, gateway=_open_watched_gateway, listener=listener)
    except* SwarmError as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure


@asynccontextmanager
async def _open_watched_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Open the parts; while they are used, the end of the node's daemon ends the use."""
    async with open_gateway(settings) as gateway, asyncio.TaskGroup() as group:
        assert isinstance(gateway.node, HivemindNode), "a process is a real peer"
        watching = group.create_task(watch_node(gateway.node))
        yield gateway
        watching.cancel()
