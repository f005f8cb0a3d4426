"""Beginnings of sessions: what OPEN asks for, and what OPENED grants.

Source: docs/reference/protocol.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from swarm_protocol.dialect.fields import Fields, parse_maps
from swarm_protocol.dialect.frame import Frame, FrameKind, build_frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.serializer import pack

TOKEN_BYTES: Final = 16
HASH_BYTES: Final = 16
MAX_ROWS: Final = 0xFFFF

MAX_PREFIX_HASHES: Final = 32 * 1024
"""Of one opening, and of those of one frame: about half of what a frame without rows may hold."""

MAX_NAME_LENGTH: Final = 256

_MAX_OPENINGS: Final = 128
"""Of one frame, where we write it: names of each take up to 3 KiB."""


@dataclass(frozen=True, slots=True)
class PushTarget:
    """The session that continues a session on the next server: steps pushed to it name `token`.

    That there is such a peer is not checked: dialling it will tell.
    """

    peer: PeerId
    token: bytes
    blocks: BlockRange


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to be opened.

    Attributes:
        session_id: chosen by the client, unique on its stream; 32 bits.
        max_length: tokens of each row that the KV cache must have room for.
        tenant: on whose behalf; the server is fair between tenants.
        wait_s: how long to wait for KV memory.
        prefix_hashes: of the whole pages of the first row's prompt (`prefix_hashes`).
        token: 16 random bytes that name the session for pushes; known to nobody else.
        push_to: where outputs of steps go that ask for it; None: only to the client.
    """

    session_id: int
    blocks: BlockRange
    max_length: int
    num_rows: int
    token: bytes
    tenant: str = ""
    adapter: str | None = None
    wait_s: float = 0.0
    prefix_hashes: tuple[bytes, ...] = ()
    push_to: PushTarget | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session is open; its KV cache holds the first `cached_tokens` of the prompt already."""

    session_id: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """Sessions to be opened."""

    openings: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class OpenedFrame:
    """Sessions that are open."""

    opened: tuple[Opened, ...]


def encode_open(openings: Sequence[Opening]) -> bytes:
    """Return an OPEN frame."""
    entries = [_opening_to_wire(opening) for opening in openings]
    return build_frame(FrameKind.OPEN, len(entries), [pack(entries)])


def split_openings(openings: Sequence[Opening]) -> Iterator[Sequence[Opening]]:
    """Yield runs of openings that fit a frame, however long the prompts are."""
    start = num_hashes = 0
    for index, opening in enumerate(openings):
        num_hashes += len(opening.prefix_hashes)
        if index > start and (num_hashes > MAX_PREFIX_HASHES or index - start == _MAX_OPENINGS):
            yield openings[start:index]
            start, num_hashes = index, len(opening.prefix_hashes)
    if openings:
        yield openings[start:]


def encode_opened(opened: Sequence[Opened]) -> bytes:
    """Return an OPENED frame."""
    entries = [{"id": entry.session_id, "cached_tokens": entry.cached_tokens} for entry in opened]
    return build_frame(FrameKind.OPENED, len(entries), [pack(entries)])


def decode_open(frame: Frame) -> OpenFrame:
    """Return the openings of an OPEN frame.

    Raises:
        MalformedMessageError: a key is missing or has a value that does not fit.
    """
    return OpenFrame(tuple(_read_opening(fields) for fields in parse_maps(frame)))


def decode_opened(frame: Frame) -> OpenedFrame:
    """Return what an OPENED frame grants. Raises as `decode_open` does."""
    return OpenedFrame(
        tuple(
            Opened(fields.whole("id"), fields.whole("cached_tokens"))
            for fields in parse_maps(frame)
        )
    )


def _opening_to_wire(opening: Opening) -> dict[str, object]:
    target = opening.push_to
    return {
        "id": opening.session_id,
        "blocks": [opening.blocks.start, opening.blocks.end],
        "max_length": opening.max_length,
        "num_rows": opening.num_rows,
        "tenant": opening.tenant,
        "adapter": opening.adapter,
        "wait_s": opening.wait_s,
        "prefix_hashes": list(opening.prefix_hashes),
        "token": opening.token,
        "push_to": None
        if target is None
        else {
            "peer": target.peer,
            "token": target.token,
            "blocks": [target.blocks.start, target.blocks.end],
        },
    }


def _read_opening(fields: Fields) -> Opening:
    adapter = fields.text("adapter", max_length=MAX_NAME_LENGTH) if fields.holds("adapter") else ""
    return Opening(
        session_id=fields.whole("id"),
        blocks=fields.blocks("blocks"),
        max_length=fields.whole("max_length"),
        num_rows=fields.whole("num_rows", least=1, most=MAX_ROWS),
        tenant=fields.text("tenant", max_length=MAX_NAME_LENGTH),
        adapter=adapter or None,
        wait_s=fields.number("wait_s"),
        prefix_hashes=_read_hashes(fields.items("prefix_hashes", most=MAX_PREFIX_HASHES)),
        token=fields.binary("token", num_bytes=TOKEN_BYTES),
        push_to=_read_target(fields.inner("push_to")),
    )


def _read_hashes(items: Sequence[object]) -> tuple[bytes, ...]:
    hashes = tuple(item for item in items if isinstance(item, bytes) and len(item) == HASH_BYTES)
    if len(hashes) != len(items):
        raise MalformedMessageError(f"a prefix hash has {HASH_BYTES} bytes")
    return hashes


def _read_target(fields: Fields | None) -> PushTarget | None:
    if fields is None:
        return None
    return PushTarget(
        peer=PeerId(fields.text("peer", max_length=MAX_NAME_LENGTH)),
        token=fields.binary("token", num_bytes=TOKEN_BYTES),
        blocks=fields.blocks("blocks"),
    )
