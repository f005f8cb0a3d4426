"""Metadata of requests: a msgpack dict, checked key by key.

Source: PETALS_PROTOCOL §2.5. Unknown keys are ignored, as stock peers do.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import MAX_BLOCKS, BlockRange, PeerId
from swarm_protocol.serializer import pack, unpack

_MAX_METADATA_BYTES: Final = 64 * 1024
_MAX_ID_LENGTH: Final = 128
_MAX_OUTPUTS: Final = 8


@dataclass(frozen=True, slots=True)
class NextServer:
    """A server further down the route: `session_id` is that of the caller's session there.

    That there is such a peer is not checked: dialling it will tell.
    """

    peer: PeerId
    session_id: str
    blocks: BlockRange

    def to_wire(self) -> list[object]:
        """Return the entry of `next_servers`."""
        return [self.peer, self.session_id, self.blocks.start, self.blocks.end]

    @classmethod
    def parse(cls, entry: object) -> "NextServer":
        """Return the checked entry.

        Raises:
            MalformedMessageError: not a peer, a session and a range of blocks.
        """
        if not isinstance(entry, list | tuple) or len(entry) != 4:
            raise MalformedMessageError("an entry of next_servers has four parts")
        peer, session_id, start, end = entry
        names = [name for name in (peer, session_id) if isinstance(name, str)]
        are_names = len(names) == 2 and all(0 < len(name) <= _MAX_ID_LENGTH for name in names)
        are_blocks = type(start) is int and type(end) is int and 0 <= start < end <= MAX_BLOCKS
        if not (are_names and are_blocks):
            raise MalformedMessageError("an entry of next_servers names a session and blocks")
        return cls(PeerId(names[0]), names[1], BlockRange(start, end))


@dataclass(frozen=True, slots=True)
class InferenceMetadata:
    """What a client says with a step. `None` means that the key is absent or nil.

    `max_length` counts tokens and comes with the first message; `alloc_timeout_s` is how long the
    caller wants to wait for KV memory; `start_from_position` rolls the session back to it;
    `next_servers` are those to push the outputs to; `is_pushed` marks a message of `rpc_push`.
    """

    session_id: str | None = None
    step_id: str | None = None
    max_length: int | None = None
    active_adapter: str | None = None
    args_structure: object = None
    start_from_position: int | None = None
    alloc_timeout_s: float = 0.0
    next_servers: tuple[NextServer, ...] = ()
    is_pushed: bool = False

    def to_wire(self) -> bytes:
        """Return the bytes for `ExpertRequest.metadata`, in the key order of stock clients."""
        fields: dict[str, object] = {}
        if self.session_id is not None:
            fields["session_id"] = self.session_id
        if self.step_id is not None:
            fields["step_id"] = self.step_id
        if self.max_length is not None:
            fields |= {"max_length": self.max_length, "points": 0.0}
            fields["active_adapter"] = self.active_adapter
        if self.args_structure is not None:
            fields["args_structure"] = self.args_structure
        if self.start_from_position is not None:
            fields["start_from_position"] = self.start_from_position
        if self.alloc_timeout_s:
            fields["alloc_timeout"] = self.alloc_timeout_s
        if self.next_servers or self.is_pushed:
            fields["next_servers"] = [server.to_wire() for server in self.next_servers]
        if self.is_pushed:
            fields["pushed"] = True
        return pack(fields)

    @classmethod
    def parse(cls, data: bytes) -> "InferenceMetadata":
        """Return the checked metadata of a request; empty bytes are an empty dict.

        Raises:
            MalformedMessageError: not a dict, or a key of the wrong type or range.
        """
        fields = _unpack_fields(data)
        return cls(
            session_id=_text(fields, "session_id"),
            step_id=_text(fields, "step_id"),
            max_length=_whole(fields, "max_length"),
            active_adapter=_text(fields, "active_adapter") or None,
            args_structure=fields.get("args_structure"),
            start_from_position=_whole(fields, "start_from_position"),
            alloc_timeout_s=max(0.0, _number(fields, "alloc_timeout", 0.0)),
            next_servers=tuple(NextServer.parse(entry) for entry in _items(fields, "next_servers")),
            is_pushed=fields.get("pushed") is True,
        )


@dataclass(frozen=True, slots=True)
class TrainingMetadata:
    """What a caller says with a forward or backward request.

    `output_compression` holds the codec of each returned tensor; None leaves the choice to the
    server.
    """

    active_adapter: str | None = None
    args_structure: object = None
    output_compression: tuple[int, ...] | None = None

    def to_wire(self) -> bytes:
        """Return the bytes for `ExpertRequest.metadata`."""
        fields: dict[str, object] = {"points": 0.0, "active_adapter": self.active_adapter}
        if self.args_structure is not None:
            fields["args_structure"] = self.args_structure
        if self.output_compression is not None:
            fields["output_compression"] = self.output_compression
        return pack(fields)

    @classmethod
    def parse(cls, data: bytes) -> "TrainingMetadata":
        """Return the checked metadata of a request; empty bytes are an empty dict.

        Raises:
            MalformedMessageError: not a dict, or a key of the wrong type or range.
        """
        fields = _unpack_fields(data)
        return cls(
            active_adapter=_text(fields, "active_adapter") or None,
            args_structure=fields.get("args_structure"),
            output_compression=_codecs(fields),
        )


def _unpack_fields(data: bytes) -> dict[object, object]:
    fields = unpack(data, max_bytes=_MAX_METADATA_BYTES) if data else {}
    if not isinstance(fields, dict):
        raise MalformedMessageError("the metadata is not a dictionary")
    _number(fields, "points", 0.0)
    return fields


def _items(fields: dict[object, object], key: str) -> list[object] | tuple[object, ...]:
    value = fields.get(key)
    if value is None:
        return ()
    if isinstance(value, list | tuple) and len(value) <= MAX_BLOCKS:
        return value
    raise MalformedMessageError(f"metadata: {key} must be a list")


def _codecs(fields: dict[object, object]) -> tuple[int, ...] | None:
    if fields.get("output_compression") is None:
        return None
    values = _items(fields, "output_compression")
    codecs = tuple(value for value in values if type(value) is int)
    if len(codecs) != len(values) or len(codecs) > _MAX_OUTPUTS:
        raise MalformedMessageError("metadata: output_compression must be a few codec numbers")
    return codecs


def _text(fields: dict[object, object], key: str) -> str | None:
    value = fields.get(key)
    if value is None or (isinstance(value, str) and len(value) <= _MAX_ID_LENGTH):
        return value
    raise MalformedMessageError(f"metadata: {key} must be a short text")


def _whole(fields: dict[object, object], key: str) -> int | None:
    value = fields.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise MalformedMessageError(f"rpc_inference metadata must contain int {key}, got {value!r:.40}")


def _number(fields: dict[object, object], key: str, default: float) -> float:
    value = fields.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise MalformedMessageError(f"metadata: {key} must be a number, got {value!r:.40}")
