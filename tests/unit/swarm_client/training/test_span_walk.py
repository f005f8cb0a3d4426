"""How long a pass goes on around servers that are gone."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
import torch

from swarm_client.errors import NoRouteError
from swarm_protocol.errors import PeerUnreachableError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import FoundRecord
from tests.unit.swarm_client.scripted_swarm import eventually
from tests.unit.swarm_client.training.training_server import (
    SETTINGS,
    assert_close,
    batch,
    local_gradients,
    training_swarm,
)


class WatchedNetwork(MemoryNetwork):
    """A network that counts look-ups, and answers them if it is to."""

    def __init__(self) -> None:
        super().__init__()
        self.num_lookups = 0
        self.answers = True

    def node(self, name: str) -> MemoryNode:
        node = LookingNode(self, PeerId(name))
        self.nodes[node.peer_id] = node
        return node


class LookingNode(MemoryNode):
    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        network = self._network
        assert isinstance(network, WatchedNetwork)
        network.num_lookups += 1
        if not network.answers:
            raise TimeoutError
        return await super().lookup(keys)


async def test_servers_that_cannot_be_reached_are_not_tried_for_ever() -> None:
    """Anybody may announce as many as they like."""
    hidden, _ = batch(1, 3)
    settings = SETTINGS.model_copy(update={"repair_timeout_s": 1e-6})
    async with training_swarm(["0:4"], settings) as swarm:
        result = await swarm.model.run_forward(hidden)
        await swarm.add(*["0:4"] * 9)
        await swarm.model.refresh()
        for server in swarm.servers:
            swarm.network.cut(server.peer)

        with pytest.raises(PeerUnreachableError):
            await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert len(swarm.banned()) == 2 + settings.max_retries


async def test_a_dht_that_does_not_answer_ends_no_waiting() -> None:
    """Those who were killed may have been peers of it."""
    hidden, _ = batch(1, 3)
    settings = SETTINGS.model_copy(update={"wait_for_blocks_s": 5})
    network = WatchedNetwork()
    async with training_swarm(["0:4"], settings, network) as swarm:
        result = await swarm.model.run_forward(hidden)
        network.cut(swarm.servers[0].peer)
        network.answers, num_before = False, network.num_lookups

        passing = asyncio.create_task(
            swarm.model.run_backward(result.tape, torch.ones_like(hidden))
        )
        await eventually(lambda: network.num_lookups > num_before + 1)
        await swarm.add("0:4")
        network.answers = True

        expected = local_gradients(hidden, torch.ones_like(hidden))[0]
        assert_close((await passing).hidden, expected)


async def test_the_dht_is_left_alone_between_two_looks_even_without_a_delay() -> None:
    """The first may follow at once; those who wait for long are many."""
    hidden, _ = batch(1, 3)
    changes = {"wait_for_blocks_s": 0.3, "retry_delay_s": 0, "max_retries": 0}
    settings = SETTINGS.model_copy(update=changes)
    network = WatchedNetwork()
    async with training_swarm(["0:4"], settings, network) as swarm:
        result = await swarm.model.run_forward(hidden)
        network.cut(swarm.servers[0].peer)
        num_before = network.num_lookups

        with pytest.raises((NoRouteError, PeerUnreachableError)):
            await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert network.num_lookups - num_before < 20
