"""The gateway as a process: its identity, its ready line, its port."""

from app.gateway import Gateway
from app.settings import Settings
from app.web_server import serve_gateway
from swarm_protocol.hivemind import make_identity
from swarmgate.listening import open_listener
from swarmgate.service import print_ready


async def run_gateway(settings: Settings) -> None:
    """Serve until a signal, then drain.

    Raises:
        PortTakenError: another program listens on the port.
        SwarmError: a part of the gateway cannot start.
    """
    open_listener(settings.host, settings.port).close()  # for the sentence when it is taken
    if settings.identity is not None:
        make_identity(settings.identity)

    def announce(gateway: Gateway, port: int) -> None:
        node = gateway.node
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print_ready(url=f"http://{host}:{port}", peer_id=node.peer_id, maddrs=node.maddrs)

    await serve_gateway(settings, announce)
