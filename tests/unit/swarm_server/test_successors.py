"""Servers that may come after ours in a route, and how far they are."""

import asyncio
from math import inf

import pytest

from swarm_protocol.identifiers import PeerId, make_uid
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import FoundRecord, RecordEntry
from swarm_protocol.records import ServerRecord, ServerState
from swarm_server.successors import Successors, read_successors

END = 4


def record(state: ServerState = ServerState.ONLINE) -> object:
    return ServerRecord(state=state, throughput=1.0).to_wire()


async def announce(node: MemoryNode, peer: PeerId, block: int = END) -> None:
    await node.store([RecordEntry(make_uid("m", block), peer, record())], ttl_s=60)


async def test_servers_of_the_next_block_are_pinged() -> None:
    """Nobody else is, least of all ourselves; who does not answer is infinitely far."""
    network = MemoryNetwork()
    us, next_one, before = (network.node(name) for name in ("us", "next", "before"))
    for peer in (us.peer_id, next_one.peer_id, PeerId("gone")):
        await announce(us, peer)
    await announce(us, before.peer_id, END - 1)
    successors = Successors(us, "m", END, period_s=30)

    await successors.look()

    assert successors.round_trips() == {next_one.peer_id: 0.0, "gone": inf}


async def test_a_few_at_a_time_are_all_of_them_in_the_end() -> None:
    """A large swarm is not pinged at once."""
    network = MemoryNetwork()
    us = network.node("us")
    for index in range(12):
        await announce(us, network.node(f"{index}").peer_id)
    successors = Successors(us, "m", END, period_s=30)

    counts = []
    for _ in range(2):
        await successors.look()
        counts.append(len(successors.round_trips()))

    assert counts == [8, 12]


async def test_a_look_that_fails_is_not_the_last() -> None:
    """What was known stays."""
    network = MemoryNetwork()
    us, other = network.node("us"), network.node("other")
    await announce(us, other.peer_id)
    looks = 0

    async def pause(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            network.cut(us.peer_id)
        elif looks == 3:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    successors = Successors(us, "m", END, period_s=30, pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await successors.keep_looking()

    assert set(successors.round_trips()) == {other.peer_id}


def test_what_is_not_online_or_no_record_is_no_successor() -> None:
    """The DHT is written by anyone."""
    found = {
        "online": FoundRecord(record(), 100.0),
        "joining": FoundRecord(record(ServerState.JOINING), 100.0),
        "offline": FoundRecord(record(ServerState.OFFLINE), 100.0),
        "nonsense": FoundRecord("hello", 100.0),
        "us": FoundRecord(record(), 100.0),
    }

    assert read_successors(found, own_peer="us") == ["online"]
