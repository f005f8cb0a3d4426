"""Servers and spans are read from records that anyone may have written."""

import pytest

from swarm_client.server_spans import read_servers
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import FoundRecord
from swarm_protocol.records import ServerState

Found = dict[str, dict[str, FoundRecord]]


def records(peer: str, blocks: range, value: object, expires_at: float = 100.0) -> Found:
    return {f"m.{index}": {peer: FoundRecord(value, expires_at)} for index in blocks}


def merged(*parts: Found) -> Found:
    found: Found = {}
    for part in parts:
        for key, entries in part.items():
            found.setdefault(key, {}).update(entries)
    return found


def spans(found: Found) -> list[tuple[str, BlockRange]]:
    return [(server.peer, server.blocks) for server in read_servers(found, "m", 6)]


def test_the_announced_range_is_the_span_clipped_to_the_model() -> None:
    """Even if only some of its records were found."""
    found = records("peer", range(3, 4), (2, 1.0, {"start_block": 2, "end_block": 9}))

    assert spans(found) == [("peer", BlockRange(2, 6))]


def test_without_a_range_the_span_is_where_the_records_are() -> None:
    """As old servers announce themselves; gaps are papered over."""
    found = merged(records("peer", range(1, 3), (2, 1.0)), records("peer", range(4, 5), (2, 1.0)))

    assert spans(found) == [("peer", BlockRange(1, 5))]


def test_the_newest_record_counts_after_a_move() -> None:
    """Old records linger under the blocks that were given up."""
    found = merged(
        records("peer", range(3), (2, 1.0, {"start_block": 0, "end_block": 3}), 100.0),
        records("peer", range(3, 6), (1, 1.0, {"start_block": 3, "end_block": 6}), 200.0),
    )

    (server,) = read_servers(found, "m", 6)
    assert (server.blocks, server.record.state) == (BlockRange(3, 6), ServerState.JOINING)


def test_servers_that_leave_are_read_as_well() -> None:
    """They say so before they do: sessions must hear of it."""
    (server,) = read_servers(records("peer", range(6), (0, 1.0)), "m", 6)

    assert server.record.state == ServerState.OFFLINE


@pytest.mark.parametrize(
    "value",
    [
        (2, 1),
        (2, -1.0),
        (7, 1.0),
        "online",
        (2, 1.0, {"start_block": 4, "end_block": 6}),
        (2, 1.0, {"start_block": 3, "end_block": 1}),
        (2, 1.0, {"next_pings": {"peer": 1}}),
    ],
)
def test_a_record_that_fails_a_check_is_ignored(value: object) -> None:
    """Wrong types, or a range without the block it stands under; others are not harmed."""
    found = merged(records("bad", range(1), value), records("good", range(1), (2, 1.0)))

    assert spans(found) == [("good", BlockRange(0, 1))]


@pytest.mark.parametrize("subkey", ["", "a b", "line\nbreak", "x" * 129, "naïve"])
def test_a_subkey_that_cannot_be_a_peer_id_is_ignored(subkey: str) -> None:
    """It would be dialled otherwise."""
    assert spans(records(subkey, range(1), (2, 1.0))) == []


def test_servers_are_sorted_by_span_and_peer() -> None:
    """So views do not flicker."""
    found = merged(
        records("b", range(2, 6), (2, 1.0)),
        records("c", range(2), (2, 1.0)),
        records("a", range(2), (2, 1.0)),
    )

    assert [peer for peer, _ in spans(found)] == ["a", "c", "b"]
