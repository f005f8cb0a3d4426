"""The parts of a running gateway, started in order and closed in reverse, whatever fails."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from app.inference.engine import EngineSettings, SwarmEngine
from app.serving import NodeIdentity, ServingEngine
from app.settings import Settings
from app.state.store import StateStore, open_state_store
from swarm_client.connection import SwarmConnection
from swarm_protocol.hivemind import HivemindNode, NodeSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the surfaces stand on. Whoever made it closes it."""

    node: NodeIdentity
    engine: ServingEngine
    store: StateStore


GatewayFactory = Callable[[Settings], AbstractAsyncContextManager[Gateway]]


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Join the swarm (or begin a new one), load the models' local parts, open the state store.

    Raises:
        NodeError: no node can be started, or no initial peer answers.
        CheckpointError: a model cannot be read.
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
        engine = await SwarmEngine.start(connection, engine_settings(settings))
        parts.push_async_callback(engine.close)
        log.info("gateway_started", peer=node.peer_id, models=sorted(engine.models))
        yield Gateway(node, engine, store)


def engine_settings(settings: Settings) -> EngineSettings:
    """Return the engine's part of the settings."""
    max_disk_gb = settings.max_disk_gb
    return EngineSettings(
        models=settings.models,
        max_disk_bytes=None if max_disk_gb is None else int(max_disk_gb * 1e9),
        dht_prefix=settings.dht_prefix,
        dtype=settings.dtype,
        device=settings.device,
        threads=settings.threads,
        replicas=settings.replicas,
    )
