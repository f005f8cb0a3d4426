"""The gateway as a process: its socket, its application in uvicorn, and their orderly end."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Final

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from swarmgate.listening import open_listener
from swarmgate.service import print_ready

# A message of the WebSocket dialect may have 256 KiB; one a little over gets its answer in words.
_MAX_MESSAGE_BYTES: Final = 256 * 1024 + 4096
_PING_INTERVAL_S: Final = 25.0


async def run_gateway(settings: Settings) -> None:
    """Serve until cancelled, then let running answers end.

    Raises:
        PortTakenError: another program listens on the port.
        SwarmError: a part of the gateway cannot start.
    """
    # Taken before the slow part of the start, so that a taken port is known at once.
    with open_listener(settings.host, settings.port) as listener:
        app = create_app(settings)
        # The lifespan is run here and not by uvicorn, which would turn its errors into a traceback.
        async with app.router.lifespan_context(app):
            server = _Server(app, listener, settings.drain_s)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    """uvicorn, but it leaves signals to us and says when it listens."""

    def __init__(self, app: FastAPI, listener: socket.socket, drain_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=_MAX_MESSAGE_BYTES,
                ws_ping_interval=_PING_INTERVAL_S,
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=ceil(drain_s),
            )
        )
        self._app = app
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets=list(sockets or ()))
        host, port = self._listener.getsockname()[:2]
        node = self._app.state.gateway.node
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        print_ready(url=url, peer_id=node.peer_id, maddrs=node.maddrs)
