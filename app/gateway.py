"""The parts of a running gateway, started in order and closed in reverse, whatever fails."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from app.inference.engine import EngineSettings, SwarmEngine
from app.inference.served_model import ServedModel
from app.serving import NodeIdentity, ServingEngine
from app.settings import Settings
from app.state.store import StateStore, open_state_store
from app.workers.canaries import SharedCanary
from app.workers.colleagues import Colleagues
from app.workers.offer import SharedOffer
from swarm_client.connection import SwarmConnection
from swarm_protocol.hivemind import HivemindNode, NodeSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the surfaces stand on. Whoever made it closes it."""

    node: NodeIdentity
    engine: ServingEngine
    store: StateStore
    offer: SharedOffer | None = None
    """None where the models cannot be changed while it runs."""


GatewayFactory = Callable[[Settings], AbstractAsyncContextManager[Gateway]]


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Join the swarm (or begin a new one), load the models' local parts, open the state store.

    Raises:
        NodeError: no node can be started, or no initial peer answers.
        CheckpointError: a model cannot be read.
        MemoryBudgetError: the models do not fit together.
    """
    async with AsyncExitStack() as parts:
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
        store = open_state_store(redis_url)
        parts.push_async_callback(store.close)
        node = await HivemindNode.start(
            NodeSettings(
                initial_peers=settings.initial_peers,
                host_maddrs=settings.host_maddrs,
                announce_maddrs=settings.announce_maddrs,
                identity_path=settings.identity,
            )
        )
        parts.push_async_callback(node.close)
        connection = SwarmConnection(node, settings.routing)
        parts.push_async_callback(connection.close)
        colleagues = Colleagues(store.board)
        await parts.enter_async_context(colleagues.looking())
        chosen = engine_settings(settings)

        def keep_canary(model: ServedModel) -> Coroutine[Any, Any, None]:
            period_s = chosen.canary_period_s
            return SharedCanary(model.canary, model.id, colleagues, period_s=period_s).run()

        engine = await SwarmEngine.start(connection, chosen, keep_canary=keep_canary)
        parts.push_async_callback(engine.close)
        offer = SharedOffer(engine, colleagues, drain_s=settings.drain_s)
        await parts.enter_async_context(offer.following())
        log.info("gateway_started", peer=node.peer_id, models=sorted(engine.models))
        yield Gateway(node, engine, store, offer)


def engine_settings(settings: Settings) -> EngineSettings:
    """Return the engine's part of the settings, for one of the workers."""
    max_disk_gb, budget_gb = settings.max_disk_gb, settings.memory_budget_gb
    budget_bytes = None if budget_gb is None else int(budget_gb * 1e9 / settings.workers)
    return EngineSettings(
        models=settings.models,
        max_disk_bytes=None if max_disk_gb is None else int(max_disk_gb * 1e9),
        dht_prefix=settings.dht_prefix,
        dtype=settings.dtype,
        devices=settings.device,
        head=settings.head,
        memory_budget_bytes=budget_bytes,
        threads=settings.threads,
        replicas=settings.replicas,
        wait_for_blocks_s=settings.routing.wait_for_blocks_s,
    )
