"""Metadata of a step of `rpc_inference`: a msgpack dict, checked key by key.

Source: PETALS_PROTOCOL §2.5. Unknown keys are ignored, as stock peers do.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack, unpack

_MAX_METADATA_BYTES: Final = 64 * 1024
_MAX_ID_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class InferenceMetadata:
    """What a client says with a step. `None` means that the key is absent or nil.

    `max_length` counts tokens and comes with the first message; `alloc_timeout_s` is how long the
    caller wants to wait for KV memory; `start_from_position` rolls the session back to it.
    """

    session_id: str | None = None
    step_id: str | None = None
    max_length: int | None = None
    active_adapter: str | None = None
    args_structure: object = None
    start_from_position: int | None = None
    alloc_timeout_s: float = 0.0

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
        return pack(fields)

    @classmethod
    def parse(cls, data: bytes) -> "InferenceMetadata":
        """Return the checked metadata of a request; empty bytes are an empty dict.

        Raises:
            MalformedMessageError: not a dict, or a key of the wrong type or range.
        """
        fields = unpack(data, max_bytes=_MAX_METADATA_BYTES) if data else {}
        if not isinstance(fields, dict):
            raise MalformedMessageError("rpc_inference metadata is not a dictionary")
        _number(fields, "points", 0.0)
        return cls(
            session_id=_text(fields, "session_id"),
            step_id=_text(fields, "step_id"),
            max_length=_whole(fields, "max_length"),
            active_adapter=_text(fields, "active_adapter") or None,
            args_structure=fields.get("args_structure"),
            start_from_position=_whole(fields, "start_from_position"),
            alloc_timeout_s=max(0.0, _number(fields, "alloc_timeout", 0.0)),
        )


def _text(fields: dict[object, object], key: str) -> str | None:
    value = fields.get(key)
    if value is None or (isinstance(value, str) and len(value) <= _MAX_ID_LENGTH):
        return value
    raise MalformedMessageError(f"rpc_inference metadata: {key} must be a short text")


def _whole(fields: dict[object, object], key: str) -> int | None:
    value = fields.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise MalformedMessageError(f"rpc_inference metadata must contain int {key}, got {value!r:.40}")


def _number(fields: dict[object, object], key: str, default: float) -> float:
    value = fields.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise MalformedMessageError(
        f"rpc_inference metadata: {key} must be a number, got {value!r:.40}"
    )
