"""A small swarm in this process whose servers add numbers up, and to which things happen."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import torch

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.models.facts import ModelFacts
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import BlockRange, make_uid
from swarm_protocol.methods import RPC_INFERENCE, RPC_INFO, RPC_PUSH
from swarm_protocol.node import RecordEntry
from swarm_protocol.records import ServerRecord, ServerState
from swarm_server.handlers import InferenceHandler, InfoHandler, Pusher, SessionTimeouts
from tests.integration.swarm_client.lanes.mixed_swarm import MixedNetwork
from tests.unit.swarm_server.engine.serving.running_sums import HIDDEN_SIZE
from tests.unit.swarm_server.handlers.dialect.lane_bench import (
    LIMITS,
    MODEL,
    LaneBench,
    lane_server,
)

_SPANS: Final = (BlockRange(0, 1), BlockRange(0, 1), BlockRange(1, 2), BlockRange(1, 2))
_FACTS: Final = ModelFacts("test", "llama", MODEL.dht_prefix, 2, HIDDEN_SIZE, 10, 512, (2,), 1, 0)
_TTL_S: Final = 60.0


@dataclass
class TroubledSwarm:
    """Two servers for each of two blocks, and a client."""

    network: MixedNetwork
    servers: Sequence[LaneBench]
    model: RemoteModel

    async def trouble(self, random: Random) -> None:
        """Break streams, cut servers off and stall them until cancelled; then all is well again."""
        try:
            while True:
                await asyncio.sleep(random.random() * 0.01)
                await self._strike(random.choice(self.servers), random)
        finally:
            for server in self.servers:
                server.engine.span.go_on.set()
                self.network.heal(server.node.peer_id)

    async def _strike(self, server: LaneBench, random: Random) -> None:
        match random.choice(("break", "break", "break", "cut", "stall", "stall")):
            case "break":
                pipes = sorted(server.node.pipes, key=id)
                if pipes:
                    random.choice(pipes).break_off()
            case "cut":
                self.network.cut(server.node.peer_id)
                await asyncio.sleep(random.random() * 0.1)
                self.network.heal(server.node.peer_id)
            case "stall":
                server.engine.span.go_on.clear()
                await asyncio.sleep(random.random() * 0.25)
                server.engine.span.go_on.set()


def hasty_settings(random: Random) -> RoutingSettings:
    """Return settings with which a client gives up soon, and keeps now all, now little."""
    return RoutingSettings(
        ban_s=0.05,
        kv_wait_s=1.0,
        max_retries=8,
        wait_for_blocks_s=3.0,
        repair_timeout_s=8.0,
        request_timeout_s=10.0,
        hedge_after_s=0.01,
        slow_look_s=0.001,
        prefill_chunk_tokens=random.choice((4, 8, 512)),
        max_history_bytes=random.choice((0, 400, 10**6)),
        late_margin_s=random.choice((0.01, 0.5)),
        late_factor=random.choice((1.0, 4.0)),
        first_patience_s=random.choice((0.05, 5.0)),
    )


@asynccontextmanager
async def troubled_swarm(
    settings: RoutingSettings, petals_only: Sequence[str]
) -> AsyncIterator[TroubledSwarm]:
    """Yield a swarm of `server-0` … `server-3`, those named speaking Petals' dialect only."""
    network = MixedNetwork(petals_only)
    async with AsyncExitStack() as stack:
        servers = []
        for index, span in enumerate(_SPANS):
            model = replace(MODEL, blocks=span)
            server = await stack.enter_async_context(
                lane_server(network, f"server-{index}", model=model)
            )
            await _serve_petals(server, span)
            await _announce(server, span)
            servers.append(server)
        connection = SwarmConnection(network.node("client"), settings)
        stack.push_async_callback(connection.close)
        yield TroubledSwarm(network, servers, await connection.watch(_FACTS))


async def _serve_petals(server: LaneBench, span: BlockRange) -> None:
    model, node = replace(MODEL, blocks=span), server.node
    timeouts = SessionTimeouts(LIMITS.step_s, LIMITS.session_s)
    pusher = Pusher(node, MODEL.dht_prefix)
    inference = InferenceHandler(model, server.engine.engine, server.admission, timeouts, pusher)
    info = InfoHandler(
        model,
        dtype=torch.float32,
        version="test",
        count_slots_left=lambda: server.budget.slots_left,
    )
    await node.serve_unary(RPC_INFO, info.answer)
    await node.serve_stream(RPC_INFERENCE, inference.serve)
    await node.serve_unary(RPC_PUSH, inference.push)


async def _announce(server: LaneBench, span: BlockRange) -> None:
    record = ServerRecord(
        state=ServerState.ONLINE, throughput=1.0, start_block=span.start, end_block=span.end
    )
    uid = make_uid(MODEL.dht_prefix, span.start)
    entry = RecordEntry(uid, server.node.peer_id, record.to_wire())
    await server.node.store([entry], ttl_s=_TTL_S)
