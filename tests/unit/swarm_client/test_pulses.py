"""Who answers a ping soon is there; who does not is gone, until they answer after all."""

import asyncio

from swarm_client.pulses import Pulses
from swarm_protocol.errors import PeerUnreachableError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.pings import Pings
from tests.unit.swarm_client.scripted_swarm import eventually

PEER = PeerId("server")


class PingingNode(MemoryNode):
    """Its pings are answered when `gate` is open."""

    def __init__(self) -> None:
        super().__init__(MemoryNetwork(), PeerId("client"))
        self.gate = asyncio.Event()
        self.num_pings = 0
        self.is_reachable = True

    async def ping(self, peer: PeerId) -> float:
        self.num_pings += 1
        if not self.is_reachable:
            raise PeerUnreachableError(peer, "gone")
        await self.gate.wait()
        return 0.001


def pulses_of(node: PingingNode) -> tuple[Pulses, Pings]:
    pings = Pings()
    pings.record(PEER, 0.001)
    return Pulses(node, pings), pings


async def test_a_peer_that_answers_is_there() -> None:
    """And its round trip is noted."""
    node = PingingNode()
    pulses, pings = pulses_of(node)
    node.gate.set()

    assert await pulses.answers(PEER)

    assert not pulses.is_silent(PEER)
    assert pings.get(PEER) == 0.001


async def test_callers_share_a_ping_and_its_time() -> None:
    """Whoever comes when it is late already learns that at once."""
    node = PingingNode()
    pulses, _ = pulses_of(node)
    answers = await asyncio.gather(*(pulses.answers(PEER) for _ in range(5)))
    started_at = asyncio.get_running_loop().time()

    assert not await pulses.answers(PEER)

    assert answers == [False] * 5
    assert asyncio.get_running_loop().time() - started_at < 0.1
    assert node.num_pings == 1
    assert pulses.is_silent(PEER)
    await pulses.close()


async def test_an_answer_that_comes_late_is_a_sign_of_life() -> None:
    """It was only busy."""
    node = PingingNode()
    pulses, _ = pulses_of(node)
    assert not await pulses.answers(PEER)

    node.gate.set()

    await eventually(lambda: not pulses.is_silent(PEER))
    assert await pulses.answers(PEER)


async def test_a_peer_that_cannot_be_reached_is_silent_at_once() -> None:
    """Nothing has to be waited for; and it is asked again next time."""
    node = PingingNode()
    pulses, _ = pulses_of(node)
    node.is_reachable = False

    assert not await pulses.answers(PEER)
    assert not await pulses.answers(PEER)

    assert pulses.is_silent(PEER)
    assert node.num_pings == 2


async def test_a_forgotten_peer_is_asked_anew() -> None:
    """It may come back as another program; who waits for its answer hears that there is none."""
    node = PingingNode()
    pulses, _ = pulses_of(node)
    waiting = asyncio.create_task(pulses.answers(PEER))
    await eventually(lambda: node.num_pings == 1)
    pulses.forget(PEER)
    assert not await waiting
    pulses.forget(PEER)
    node.gate.set()

    assert await pulses.answers(PEER)
    assert node.num_pings == 2


async def test_others_are_asked_at_the_same_time() -> None:
    """Of several that are gone, the later ones are known by then."""
    node = PingingNode()
    pulses, _ = pulses_of(node)
    other = PeerId("other")
    assert not await pulses.answers(PEER, [PEER, other])
    assert not pulses.is_silent(other)
    await asyncio.wait_for(pulses.answers(other), 0.3)

    assert node.num_pings == 2
    assert pulses.is_silent(other)
    await pulses.close()
