"""Round trips: smoothed, and measured in turn."""

from math import inf

from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.pings import Pings, measure

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def test_round_trips_are_smoothed_and_silence_is_not() -> None:
    """Whoever answers again is as near as it says."""
    pings = Pings()
    seen = []
    for round_trip_s in (0.1, 0.2, inf, 0.3):
        pings.record(A, round_trip_s)
        seen.append(pings.get(A))

    assert seen == [0.1, 0.1 + 0.2 * (0.2 - 0.1), inf, 0.3]


def test_unknown_peers_are_measured_first_and_then_the_oldest() -> None:
    """So that a few at a time are all of them in the end."""
    pings = Pings()
    for peer in (A, B, A):
        pings.record(peer, 0.1)

    assert pings.oldest_first([A, B, C]) == [C, B, A]


def test_peers_that_have_gone_are_forgotten() -> None:
    """The swarm changes."""
    pings = Pings()
    pings.record(A, 0.1)
    pings.record(B, 0.2)

    pings.keep({B, C})

    assert pings.all() == {B: 0.2}


async def test_who_does_not_answer_is_infinitely_far() -> None:
    """Others are measured all the same."""
    network, pings = MemoryNetwork(), Pings()
    node, other = network.node("us"), network.node("other")

    await measure(node, pings, [other.peer_id, PeerId("nobody")], timeout_s=1)

    assert pings.all() == {other.peer_id: 0.0, PeerId("nobody"): inf}
