"""Announcing a server."""

import asyncio
from collections.abc import Sequence

import pytest

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import RecordEntry
from swarm_protocol.records import MODEL_REGISTRY_KEY, ModelRecord, ServerRecord, ServerState
from swarm_server.announcing import Announced, Announcer


class RecordingNode(MemoryNode):
    """A memory node that remembers what was stored, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        network = MemoryNetwork()
        super().__init__(network, network.node("me").peer_id)
        self.stored: list[tuple[list[RecordEntry], float]] = []
        self.failures = failures

    async def store(self, entries: Sequence[RecordEntry], *, ttl_s: float) -> bool:
        self.stored.append((list(entries), ttl_s))
        if self.failures > 0:
            self.failures -= 1
            if self.failures % 2:
                raise OSError("the daemon does not answer")
            return False
        return await super().store(entries, ttl_s=ttl_s)


class Pauses:
    """Stands in for the clock: pauses end at once, until there have been enough."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self._count = count

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) > self._count:
            raise asyncio.CancelledError


def describe(state: ServerState) -> ServerRecord:
    return ServerRecord(state=state, throughput=1.0)


def make_announcer(
    node: RecordingNode, pauses: Pauses, *, prefix: str = "m", period_s: float = 30.0
) -> Announcer:
    announced = Announced(prefix, BlockRange(2, 4), ModelRecord(num_blocks=8))
    return Announcer(node, announced, describe, period_s=period_s, pause=pauses)


async def test_a_state_is_published_under_each_block_and_the_model_once() -> None:
    """With our peer id as the subkey, and the prefix as the registry's."""
    node = RecordingNode()

    assert await make_announcer(node, Pauses(0)).publish(ServerState.JOINING)

    entries, ttl_s = node.stored[0]
    assert entries == [
        RecordEntry("m.2", "me", (1, 1.0, {"adapters": ()})),
        RecordEntry("m.3", "me", (1, 1.0, {"adapters": ()})),
        RecordEntry(MODEL_REGISTRY_KEY, "m", {"num_blocks": 8, "repository": None}),
    ]
    assert ttl_s == 60.0


async def test_records_live_at_least_three_seconds() -> None:
    """Even when the period is shorter than that."""
    node = RecordingNode()

    await make_announcer(node, Pauses(0), period_s=0.5).publish(ServerState.ONLINE)

    assert node.stored[0][1] == 3.0


async def test_a_private_prefix_is_not_in_the_registry() -> None:
    """It begins with an underscore."""
    node = RecordingNode()

    await make_announcer(node, Pauses(0), prefix="_m").publish(ServerState.ONLINE)

    assert [entry.key for entry in node.stored[0][0]] == ["_m.2", "_m.3"]


async def test_the_last_state_is_published_every_period() -> None:
    """Until cancelled."""
    node, pauses = RecordingNode(), Pauses(2)
    announcer = make_announcer(node, pauses)
    await announcer.publish(ServerState.ONLINE)

    with pytest.raises(asyncio.CancelledError):
        await announcer.keep_announcing()

    assert pauses.seconds == [30.0, 30.0, 30.0]
    assert [entries[0].value for entries, _ in node.stored] == [(2, 1.0, {"adapters": ()})] * 3


async def test_a_failed_publication_is_tried_again_soon() -> None:
    """Whether no peer took it or the node failed; then the period is as before."""
    node, pauses = RecordingNode(failures=3), Pauses(3)
    announcer = make_announcer(node, pauses)
    assert not await announcer.publish(ServerState.ONLINE)

    with pytest.raises(asyncio.CancelledError):
        await announcer.keep_announcing()

    assert pauses.seconds == [30.0, 2.0, 2.0, 30.0]
    assert len(node.stored) == 4
