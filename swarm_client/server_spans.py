"""From records in the DHT to servers and their spans. Pure.

Records are hints that anyone may write (PETALS_PROTOCOL §1.6): each is checked by itself, and one
that is malformed, or stands under a block outside its own range, is ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId, make_uid
from swarm_protocol.node import FoundRecord
from swarm_protocol.records import ServerRecord

_MAX_PEER_ID_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Server:
    """A server in any state, and the span it announces, clipped to the model.

    `expires_at` is that of its newest record, in UTC seconds: it grows with each announcement.
    """

    peer: PeerId
    blocks: BlockRange
    record: ServerRecord
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Sighting:
    block_index: int
    record: ServerRecord
    expires_at: float


def read_servers(
    found: Mapping[str, Mapping[str, FoundRecord]], dht_prefix: str, num_blocks: int
) -> tuple[Server, ...]:
    """Return the servers in the records of a model's blocks, by start of span and peer id.

    Args:
        found: result of looking up the uids of all blocks.
    """
    sightings: dict[PeerId, list[_Sighting]] = {}
    for block_index in range(num_blocks):
        for subkey, record in found.get(make_uid(dht_prefix, block_index), {}).items():
            sighting = _check(block_index, record)
            if sighting is not None and _may_be_peer_id(subkey):
                sightings.setdefault(PeerId(subkey), []).append(sighting)
    servers = [_server(peer, seen, num_blocks) for peer, seen in sightings.items()]
    return tuple(sorted(servers, key=lambda server: (server.blocks, server.peer)))


def _server(peer: PeerId, sightings: list[_Sighting], num_blocks: int) -> Server:
    """The newest record counts: after a move, older ones linger under blocks given up."""
    latest = max(sightings, key=lambda seen: seen.expires_at)
    newest = latest.record
    if newest.start_block is not None and newest.end_block is not None:
        blocks = BlockRange(newest.start_block, min(newest.end_block, num_blocks))
    else:  # the form of old servers: the span is where their records are
        indexes = [seen.block_index for seen in sightings if seen.record.state == newest.state]
        blocks = BlockRange(min(indexes), max(indexes) + 1)
    return Server(peer, blocks, newest, latest.expires_at)


def _check(block_index: int, found: FoundRecord) -> _Sighting | None:
    try:
        record = ServerRecord.from_wire(found.value)
    except MalformedMessageError:
        return None
    start, end = record.start_block, record.end_block
    if start is not None and end is not None and not start <= block_index < end:
        return None
    return _Sighting(block_index, record, found.expires_at)


def _may_be_peer_id(subkey: str) -> bool:
    """Whether it names a peer that exists is proved by dialling it."""
    is_short = 0 < len(subkey) <= _MAX_PEER_ID_LENGTH
    return is_short and subkey.isascii() and subkey.isprintable() and " " not in subkey
