"""What callers are told of repairs."""

from app.journals.notices import notice_of
from swarm_client.session.events import HopLost, HopRestored, WaitingForBlocks
from swarm_protocol.identifiers import BlockRange, PeerId


def test_a_lost_server_is_told_by_its_blocks_alone() -> None:
    """Neither its name nor the reason, which may be its own words."""
    event = HopLost(PeerId("QmSecret"), BlockRange(0, 4), "secret path")

    assert notice_of(event).to_json() == {"type": "hop_lost", "blocks": [[0, 4]]}


def test_waiting_names_the_blocks_and_the_time_left() -> None:
    """So that people know what to bring, and how soon."""
    event = WaitingForBlocks((BlockRange(4, 8), BlockRange(10, 12)), 29.96)

    assert notice_of(event).to_json() == {
        "type": "waiting_for_blocks",
        "blocks": [[4, 8], [10, 12]],
        "left_s": 30.0,
    }


def test_the_end_of_a_repair_tells_how_long_it_took() -> None:
    """Then whatever was told before holds no more."""
    event = HopRestored(BlockRange(0, 4), 212, 0.12345, 0.0)

    assert notice_of(event).to_json() == {
        "type": "hop_restored",
        "blocks": [[0, 4]],
        "gap_s": 0.123,
    }
