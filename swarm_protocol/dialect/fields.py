"""Maps that a peer has packed with msgpack, read key by key within bounds.

Unknown keys are ignored.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Final

from swarm_protocol.dialect.frame import Frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import MAX_BLOCKS, BlockRange
from swarm_protocol.serializer import unpack

MAX_U32: Final = 2**32 - 1

Fact = bool | int | float | str
"""What an error may tell besides its message."""


class Fields:
    """One map. Every method raises MalformedMessageError for what is missing or does not fit."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise MalformedMessageError("expected a map")
        self._values: Mapping[object, object] = value

    def whole(self, key: str, *, least: int = 0, most: int = MAX_U32) -> int:
        """Return an integer from `least` to `most`."""
        value = self._values.get(key)
        if type(value) is int and least <= value <= most:
            return value
        raise _wrong(key, f"a whole number from {least} to {most}")

    def number(self, key: str) -> float:
        """Return a finite number that is not negative."""
        value = self._values.get(key)
        if type(value) in (int, float) and isinstance(value, int | float):
            number = float(value) if abs(value) <= MAX_U32 else -1.0
            if isfinite(number) and number >= 0:
                return number
        raise _wrong(key, f"a number from 0 to {MAX_U32}")

    def truth(self, key: str) -> bool:
        """Return a truth value."""
        value = self._values.get(key)
        if isinstance(value, bool):
            return value
        raise _wrong(key, "true or false")

    def text(self, key: str, *, max_length: int) -> str:
        """Return a text, which may be empty."""
        value = self._values.get(key)
        if isinstance(value, str) and len(value) <= max_length:
            return value
        raise _wrong(key, f"a text of at most {max_length} characters")

    def binary(self, key: str, *, num_bytes: int) -> bytes:
        """Return exactly so many bytes."""
        value = self._values.get(key)
        if isinstance(value, bytes) and len(value) == num_bytes:
            return value
        raise _wrong(key, f"{num_bytes} bytes")

    def items(self, key: str, *, most: int) -> list[object]:
        """Return a list of at most so many items."""
        value = self._values.get(key)
        if isinstance(value, list) and len(value) <= most:
            return value
        raise _wrong(key, f"a list of at most {most} items")

    def blocks(self, key: str) -> BlockRange:
        """Return a range of at least one block."""
        value = self._values.get(key)
        if isinstance(value, list) and [type(bound) for bound in value] == [int, int]:
            start, end = value
            if 0 <= start < end <= MAX_BLOCKS:
                return BlockRange(start, end)
        raise _wrong(key, "[start, end] of some blocks")

    def inner(self, key: str) -> "Fields | None":
        """Return a map inside of this one; None if it is absent or nil."""
        value = self._values.get(key)
        return None if value is None else Fields(value)

    def facts(self, key: str, *, most: int) -> dict[str, Fact]:
        """Return a map of names to plain values."""
        value = self._values.get(key)
        if isinstance(value, dict) and len(value) <= most:
            facts = {
                name: fact
                for name, fact in value.items()
                if isinstance(name, str) and isinstance(fact, Fact)
            }
            if len(facts) == len(value):
                return facts
        raise _wrong(key, f"a map of at most {most} plain values")

    def holds(self, key: str) -> bool:
        """Tell whether there is anything but nil."""
        return self._values.get(key) is not None


def parse_maps(frame: Frame) -> list[Fields]:
    """Return the entries of a frame whose body is a list of maps.

    Raises:
        MalformedMessageError: it is no such list, or not as long as the header says.
    """
    entries = unpack(bytes(frame.body))
    if not isinstance(entries, list) or len(entries) != frame.num_entries:
        raise MalformedMessageError(f"expected a list of {frame.num_entries} maps")
    return [Fields(entry) for entry in entries]


def _wrong(key: str, expected: str) -> MalformedMessageError:
    return MalformedMessageError(f"{key} must be {expected}")
