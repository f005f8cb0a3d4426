"""From DHT records to the spans that servers hold or are loading. Source: PETALS_PROTOCOL §1.6."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import FoundRecord
from swarm_protocol.records import ServerRecord, ServerState


@dataclass(frozen=True, slots=True)
class AnnouncedSpan:
    """Blocks that one peer says it serves, and at how many tokens per second."""

    peer: str
    blocks: BlockRange
    throughput: float


def read_spans(
    records: Sequence[Mapping[str, FoundRecord]], *, own_peer: str | None = None
) -> list[AnnouncedSpan]:
    """Return the spans of all servers that are loading or online, in the order of peer ids.

    Records that fail validation are dropped: the DHT is written by anyone.

    Args:
        records: per block of the model, `{peer: record}`.
        own_peer: left out of the result.
    """
    spans: dict[str, AnnouncedSpan] = {}
    for index, block_records in enumerate(records):
        for peer, found in block_records.items():
            record = _parse(found)
            if record is None or peer == own_peer:
                continue
            previous = spans.get(peer)
            if previous is not None and previous.blocks.end > index:
                continue
            blocks = _blocks(record, index, len(records))
            if previous is not None and previous.blocks.end == blocks.start:
                blocks = BlockRange(previous.blocks.start, blocks.end)
            spans[peer] = AnnouncedSpan(peer, blocks, record.throughput)
    return [spans[peer] for peer in sorted(spans)]


def _parse(found: FoundRecord) -> ServerRecord | None:
    try:
        record = ServerRecord.from_wire(found.value)
    except MalformedMessageError:
        return None
    return None if record.state == ServerState.OFFLINE else record


def _blocks(record: ServerRecord, index: int, num_blocks: int) -> BlockRange:
    """Return the range in the record if it holds the block it stands under, else that block."""
    start, end = record.start_block, record.end_block
    if start is None or end is None or not start <= index < end:
        return BlockRange(index, index + 1)
    return BlockRange(start, min(end, num_blocks))
