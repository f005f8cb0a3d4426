"""Spans in the records of the DHT."""

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import FoundRecord
from swarm_server.placement import AnnouncedSpan, read_spans

ONLINE, JOINING, OFFLINE = 2, 1, 0


def found(state: int, throughput: object = 1.0, **extra: object) -> FoundRecord:
    return FoundRecord((state, throughput, extra), expires_at=0.0)


def test_a_server_counts_once_with_the_range_it_states() -> None:
    """The same record stands under each of its blocks."""
    record = found(ONLINE, 3.0, start_block=0, end_block=2)

    assert read_spans([{"a": record}, {"a": record}]) == [AnnouncedSpan("a", BlockRange(0, 2), 3.0)]


def test_without_a_range_blocks_in_a_row_make_a_span() -> None:
    """Records of old servers hold none."""
    record = found(ONLINE)

    spans = read_spans([{"a": record}, {"a": record}, {}, {"b": record}])

    assert [(span.peer, span.blocks) for span in spans] == [
        ("a", BlockRange(0, 2)),
        ("b", BlockRange(3, 4)),
    ]


def test_loading_servers_count_and_those_that_left_do_not() -> None:
    """Blocks that somebody is loading need nobody else."""
    spans = read_spans([{"a": found(JOINING), "b": found(OFFLINE)}])

    assert [span.peer for span in spans] == ["a"]


def test_own_records_are_left_out() -> None:
    """From an earlier life with the same identity."""
    assert read_spans([{"me": found(ONLINE)}], own_peer="me") == []


def test_spans_come_in_the_order_of_peers() -> None:
    """Sums of floats depend on it, and all servers must agree."""
    assert [span.peer for span in read_spans([{"b": found(2), "a": found(2)}])] == ["a", "b"]


def test_broken_records_and_false_ranges_do_no_harm() -> None:
    """Anyone can write into the DHT."""
    spans = read_spans(
        [
            {"int": found(ONLINE, 1), "text": FoundRecord("?", 0.0)},
            {"far": found(ONLINE, start_block=5, end_block=7)},
            {"wide": found(ONLINE, start_block=0, end_block=900)},
        ]
    )

    assert [(span.peer, span.blocks) for span in spans] == [
        ("far", BlockRange(1, 2)),
        ("wide", BlockRange(0, 3)),
    ]
