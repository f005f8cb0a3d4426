"""Whenever a caller leaves while servers are lost or late, no server keeps anything of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import torch

from swarm_client import RoutingSettings
from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.session import InferenceSession
from swarm_protocol.identifiers import make_uid
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import RecordEntry
from swarm_protocol.records import ServerRecord, ServerState
from tests.unit.swarm_client.scripted_server import FACTS
from tests.unit.swarm_server.engine.serving.running_sums import BLOCKS, HIDDEN_SIZE
from tests.unit.swarm_server.handlers.dialect.lane_bench import MODEL, LaneBench, lane_server

SETTINGS = RoutingSettings(first_patience_s=0.05, late_margin_s=0.05, late_factor=1, kv_wait_s=0)
SUMS = replace(FACTS, dht_prefix=MODEL.dht_prefix, num_blocks=1, hidden_size=HIDDEN_SIZE)


@dataclass
class Trouble:
    """A step whose server is in trouble, while another one takes over."""

    session: InferenceSession
    step: asyncio.Task[torch.Tensor]


@asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[RemoteModel, list[LaneBench]]]:
    """Yield a model that two servers have, of which one is enough."""
    network = MemoryNetwork()
    async with lane_server(network, "first") as first, lane_server(network, "second") as second:
        for server in (first, second):
            await announce(server)
        connection = SwarmConnection(network.node("client"), SETTINGS)
        yield await connection.watch(SUMS), [first, second]
        await connection.close()


async def announce(server: LaneBench) -> None:
    record = ServerRecord(
        state=ServerState.ONLINE, throughput=1.0, start_block=BLOCKS.start, end_block=BLOCKS.end
    )
    uid = make_uid(SUMS.dht_prefix, BLOCKS.start)
    await server.node.store([RecordEntry(uid, server.node.peer_id, record.to_wire())], ttl_s=60)


async def in_trouble(
    model: RemoteModel, servers: list[LaneBench], trouble: str, *, num_batches: int
) -> Trouble:
    """Run some tokens, let their server be lost or late, and wait for what the other one does.

    Args:
        model: that both have.
        servers: both.
        trouble: `lost` or `late`.
        num_batches: that the other one has computed by then; 0: it is asked for a session.
    """
    session = await model.open_session(max_length=20)
    await session.step(torch.ones(1, 3, HIDDEN_SIZE))
    used, other = sorted(servers, key=lambda server: -server.admission.num_sessions)
    if trouble == "late":
        used.engine.span.go_on.clear()
    else:
        for pipe in list(used.node.pipes):
            pipe.break_off()
    step = asyncio.create_task(session.step(torch.ones(1, 1, HIDDEN_SIZE)))
    counters, admission = other.engine.engine.counters, other.admission
    while not admission.num_sessions or counters.num_batches < num_batches:  # noqa: ASYNC110
        await asyncio.sleep(0)  # turns of the loop are counted from here on
    return Trouble(session, step)


@pytest.mark.parametrize("trouble", ["late", "lost"])
@pytest.mark.parametrize("leave", ["cancel", "close"])
@pytest.mark.parametrize("num_batches", [0, 1])
async def test_who_leaves_while_others_take_over_leaves_all(
    trouble: str, leave: str, num_batches: int
) -> None:
    """In whichever turn of the loop, before the replay or after it; the step ends at once."""
    for num_turns in range(16):
        async with two_servers() as (model, servers), asyncio.timeout(10):
            left = await in_trouble(model, servers, trouble, num_batches=num_batches)
            for _ in range(num_turns):
                await asyncio.sleep(0)

            if leave == "cancel":
                left.step.cancel()
            else:
                await left.session.close()
            await asyncio.gather(left.step, return_exceptions=True)
            await left.session.close()

            for server in servers:
                server.engine.span.go_on.set()
                await server.assert_all_is_free()
