"""Sums of where the time went."""

from app.inference.requests import TokenTimings
from app.observability.time_spent import TimeSpent
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange, PeerId

TELLING = HopTiming(PeerId("QmFirst"), BlockRange(0, 4), 4.0, queue_ms=0.5, compute_ms=2.5)
SILENT = HopTiming(PeerId("QmSecond"), BlockRange(4, 8), 3.0)


def test_hops_are_split_as_far_as_servers_tell() -> None:
    """The rest is the network's."""
    spent = TimeSpent()

    took_ms = spent.add_step(TokenTimings(queue_ms=0.25, hops=(TELLING, SILENT), head_ms=1.0))

    assert took_ms == 8.25
    timings = spent.to_json()
    assert (timings["hops_ms"], timings["num_hop_visits"], timings["num_steps"]) == (7.0, 2, 1)
    assert (timings["hops_queue_ms"], timings["hops_compute_ms"]) == (0.5, 2.5)
    assert timings["hops_network_ms"] == 4.0


def test_pace_is_that_of_the_tokens_behind_the_first() -> None:
    """The first one's time is the prefill's."""
    assert TimeSpent(prefill_ms=900, decode_ms=500, num_tokens=11).tokens_per_s == 20
    assert TimeSpent(prefill_ms=900, num_tokens=1).tokens_per_s == 0
    assert TimeSpent().tokens_per_s == 0
