"""Runs a gateway: uvicorn's options, signals, and a shutdown that lets streams end."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

import uvicorn
from fastapi import FastAPI

from app.context import AppContext
from app.direct_writes import DirectHttpProtocol
from app.gateway import Gateway, GatewayFactory, open_gateway
from app.http_protocol import BoundedHttpProtocol
from app.main import create_app
from app.open_connections import OpenConnections
from app.settings import Settings
from app.socket_protocol import GatewaySocketProtocol

_MAX_SOCKET_MESSAGE_BYTES: Final = 1_048_576  # over the dialect's own limit, which has an answer
_PING_INTERVAL_S: Final = 25.0
_LEFTOVER_TIMEOUT_S: Final = 2
_TICK_S: Final = 0.1
_COLLECTIONS: Final = (5_000, 20, 10)
"""Objects until the garbage collector looks at the young, and how much rarer at older ones."""


async def serve_gateway(
    settings: Settings,
    on_ready: Callable[[Gateway, int], None],
    *,
    gateway: GatewayFactory = open_gateway,
    listener: socket.socket | None = None,
) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain it and return.

    Args:
        on_ready: called with the port when requests are taken.
        listener: a listening socket, from which other processes may accept, too; closed in the
            end. Without one, the address of the settings is listened on.

    Raises:
        OSError: the address cannot be listened on.
        SwarmError: a part of the gateway cannot be started.
    """
    with listener or _listen(settings.host, settings.port) as bound:
        _end_stuck_connections(bound, settings.limits.slow_reader_s)
        async with gateway(settings) as parts:
            app = create_app(settings, gateway=lambda _: nullcontext(parts))
            port = bound.getsockname()[1]
            server = GatewayWebServer(app, settings, lambda: on_ready(parts, port))
            await server.serve(sockets=[bound])


class GatewayHttpProtocol(BoundedHttpProtocol, DirectHttpProtocol):
    """HTTP/1.1 with bounded heads, and with answers that write past ASGI."""


def _protocol_of(settings: Settings) -> type[GatewayHttpProtocol]:
    """Return the protocol of one server, which counts its own connections."""
    most = settings.limits.address_tcp_connections

    class CountedHttpProtocol(GatewayHttpProtocol):
        open_connections = OpenConnections(most, exempt=settings.trusted_proxies)

    return CountedHttpProtocol


class GatewayWebServer(uvicorn.Server):
    """Serves the app of `create_app`.

    On SIGTERM or SIGINT it goes on answering for up to `drain_s`: what runs may end, new
    generations get 503. A second SIGINT cuts that short. What still runs then is handed over.
    """

    def __init__(self, app: FastAPI, settings: Settings, on_ready: Callable[[], None]) -> None:
        self._app = app
        self._drain_s = settings.drain_s
        self._on_ready = on_ready
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol_of(settings),
                ws=GatewaySocketProtocol,
                lifespan="on",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                ws_max_size=_MAX_SOCKET_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # a message is a token: not worth compressing
                ws_ping_interval=_PING_INTERVAL_S,
                timeout_graceful_shutdown=_LEFTOVER_TIMEOUT_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets)
        _keep_collections_short()
        self._on_ready()

    async def main_loop(self) -> None:
        """Serve until told to stop, then drain."""
        await super().main_loop()
        context: AppContext = self._app.state.context
        draining = asyncio.ensure_future(context.admission.drain(self._drain_s))
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=_TICK_S)
        draining.cancel()
        await asyncio.wait({draining})
        await context.keeper.hand_over()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn itself would raise it again before the parts are closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _keep_collections_short() -> None:
    """Spare the garbage collector what was imported: looking at all of it stops tokens for 0.2 s.

    Each token leaves an object, so with Python's thresholds it would look at all of thousands of
    streams every few seconds, and find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _end_stuck_connections(listener: socket.socket, after_s: float) -> None:
    """Let the kernel end connections whose peers take nothing; what is accepted inherits it.

    Closing one is not enough: what is in its buffers would be kept for as long as the peer lives.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(after_s * 1000))


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything slow starts, so that a taken port shows at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
