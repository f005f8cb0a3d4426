"""The real app on a real engine and real block servers, all in this process."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx2
from fastapi import FastAPI

from app.gateway import Gateway
from app.main import create_app
from app.settings import Settings
from app.state.memory import MemoryStateStore
from app.web_server import serve_gateway
from app.workers.colleagues import Colleagues
from app.workers.offer import SharedOffer
from tests.integration.app.inference.swarm import Swarm, swarm_of


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """What a test looks at."""

    app: FastAPI
    swarm: Swarm

    def client(self) -> httpx2.AsyncClient:
        """Return a client that calls the app without a socket."""
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://gateway", timeout=15)

    def num_requests(self, outcome: str, surface: str) -> float | None:
        """Return how many requests of a surface ended so."""
        return self.app.state.context.metrics.registry.get_sample_value(  # type: ignore[no-any-return]
            "swarmgate_requests_total", {"surface": surface, "outcome": outcome}
        )


@asynccontextmanager
async def gateway_of(
    model: Path, settings: Settings | None = None
) -> AsyncIterator[RunningGateway]:
    """Run the app on two servers that hold half of the model each."""
    async with _parts_of(model) as (parts, swarm):
        app = create_app(settings or Settings(), gateway=lambda _: nullcontext(parts))
        async with app.router.lifespan_context(app):
            yield RunningGateway(app, swarm)


@asynccontextmanager
async def listening_gateway(
    model: Path, settings: Settings | None = None
) -> AsyncIterator[tuple[str, Swarm]]:
    """Serve the app at a free port, as the command line does; yield its address and the swarm.

    It is stopped by SIGTERM.
    """
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with _parts_of(model) as (parts, swarm):
        serving = asyncio.create_task(
            serve_gateway(
                settings or Settings(port=0),
                lambda _, number: port.set_result(number),
                gateway=lambda _: nullcontext(parts),
            )
        )
        yield f"http://127.0.0.1:{await port}", swarm
        if not serving.done():
            signal.raise_signal(signal.SIGTERM)
        await serving


@asynccontextmanager
async def _parts_of(model: Path) -> AsyncIterator[tuple[Gateway, Swarm]]:
    async with swarm_of(model) as swarm:
        node = swarm.network.node("address-of-the-gateway")
        store = MemoryStateStore()
        offer = SharedOffer(swarm.engine, Colleagues(store.board), drain_s=5)
        async with offer.following():
            yield Gateway(node, swarm.engine, store, offer), swarm
        await node.close()
