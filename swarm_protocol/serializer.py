"""The msgpack dialect of hivemind and Petals, with bounds.

Ordinary msgpack with `bin` types; tuples are ext 0x40, tensor descriptors ext 0x51.
Source: PETALS_PROTOCOL §1.2.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgpack

from swarm_protocol.errors import MalformedMessageError

TUPLE_CODE: Final = 0x40
DESCRIPTOR_CODE: Final = 0x51
MAX_DEPTH: Final = 16


def pack(value: object) -> bytes:
    """Return `value` in the dialect; tuples stay distinct from lists.

    Raises:
        TypeError: a part of `value` has no form in msgpack.
    """
    data: bytes = msgpack.packb(value, default=_encode_tuple, strict_types=True, use_bin_type=True)
    return data


def pack_descriptor(fields: Mapping[str, object]) -> msgpack.ExtType:
    """Return a tensor descriptor, to be part of a value given to `pack`."""
    return msgpack.ExtType(DESCRIPTOR_CODE, pack(dict(fields)))


def unpack(data: bytes, *, max_bytes: int = 1024 * 1024) -> object:
    """Return the value that `data` holds; tensor descriptors become dicts.

    Raises:
        MalformedMessageError: not msgpack, too large, too deep, or an unknown extension.
    """
    if len(data) > max_bytes:
        raise MalformedMessageError(
            f"expected at most {max_bytes} bytes of msgpack, got {len(data)}"
        )
    try:
        return _unpack(data, depth=0)
    except MalformedMessageError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedMessageError(f"not valid msgpack: {type(error).__name__}") from error


def _unpack(data: bytes, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise MalformedMessageError(f"msgpack is nested deeper than {MAX_DEPTH} levels")
    return msgpack.unpackb(
        data, ext_hook=_extension_hook(depth), strict_map_key=False, raw=False, use_list=True
    )


def _extension_hook(depth: int) -> Callable[[int, bytes], object]:
    def decode(code: int, data: bytes) -> object:
        inner = _unpack(data, depth + 1) if code in (TUPLE_CODE, DESCRIPTOR_CODE) else None
        if code == TUPLE_CODE and isinstance(inner, list):
            return tuple(inner)
        if code == DESCRIPTOR_CODE and isinstance(inner, dict):
            return inner
        raise MalformedMessageError(f"unexpected msgpack extension 0x{code & 0xFF:02x}")

    return decode


def _encode_tuple(value: object) -> msgpack.ExtType:
    if isinstance(value, tuple):
        return msgpack.ExtType(TUPLE_CODE, pack(list(value)))
    raise TypeError(f"{type(value).__name__} has no form in msgpack")
