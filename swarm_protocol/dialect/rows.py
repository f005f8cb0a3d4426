"""Hidden states of many sessions in one frame, and what a few of their steps have besides.

    entries (fixed size each) | prefix (16 bytes) | rows of all entries | extras | deep prompts

This is the hot path: entries are packed and unpacked in C, and the rows are copied once.
Source: docs/reference/protocol.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from struct import Struct
from typing import Final, Protocol

import torch
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack, unpack

_PREFIX: Final = Struct("<B3xII4x")  # dtype, hidden size, bytes of the extras
_DTYPES: Final = {1: torch.float32, 2: torch.bfloat16, 3: torch.float16}
_DTYPE_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_HYPO_ID: Final = 0xFFFF
_MAX_PROMPT_SIZE: Final = 2**20
_GOOD_FRAME_BYTES: Final = 2**22


class RowsEntry(Protocol):
    """One entry of a frame with rows: the tokens of `num_rows` rows, one row after the other."""

    @property
    def num_rows(self) -> int:
        """Rows of the session's batch."""

    @property
    def num_tokens(self) -> int:
        """Tokens of each row."""


@dataclass(frozen=True, slots=True, eq=False)
class StepExtras:
    """What few steps have.

    Attributes:
        hypo_ids: int64 `[num_rows]`: the earlier row that each row continues.
        prompts: `[num_blocks, num_rows or 1, num_prompts, hidden_size]`: deep prompts.
    """

    hypo_ids: Tensor | None = None
    prompts: Tensor | None = None


def good_frame_tokens(hidden_size: int) -> int:
    """Return how many tokens of prompts go best into one frame, if they are not of one step.

    Those of many sessions could fill a much larger one; but what has come first is computed while
    the rest is on its way, here and at the servers behind.
    """
    return max(1, _GOOD_FRAME_BYTES // (hidden_size * torch.float32.itemsize))


def split_rows(entries: Sequence[RowsEntry], hidden: Tensor) -> Sequence[Tensor]:
    """Return each entry's `[num_rows, num_tokens, hidden_size]`.

    They are views: whoever keeps one for long keeps the whole frame, and should copy it.
    """
    hidden_size = hidden.shape[1]
    shapes = [(entry.num_rows, entry.num_tokens, hidden_size) for entry in entries]
    if shapes.count(shapes[0]) == len(shapes):  # as when all decode; a third of the time
        return hidden.view(len(shapes), *shapes[0]).unbind()
    sizes = [num_rows * num_tokens for num_rows, num_tokens, _ in shapes]
    parts = torch.split(hidden, sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def encode_rows(
    hidden: Tensor, extras: Mapping[int, StepExtras]
) -> list[bytes | bytearray | memoryview]:
    """Return everything after the entries, in parts.

    Args:
        hidden: `[num_tokens, hidden_size]` of float32, bfloat16 or float16, on the CPU.
        extras: by index of the entry; deep prompts have the hidden size, too.
    """
    code, hidden_size = _DTYPE_CODES[hidden.dtype], hidden.shape[1]
    if not extras:  # as nearly always
        return [_PREFIX.pack(code, hidden_size, 0), _raw_bytes(hidden)]
    tensors = [entry.prompts for entry in extras.values() if entry.prompts is not None]
    packed = pack({index: _extras_to_wire(entry) for index, entry in extras.items()})
    prefix = _PREFIX.pack(code, hidden_size, len(packed))
    return [prefix, _raw_bytes(hidden), packed, *map(_raw_bytes, tensors)]


def decode_rows(
    data: memoryview, entries: Sequence[RowsEntry]
) -> tuple[Tensor, dict[int, StepExtras]]:
    """Return hidden states `[num_tokens, hidden_size]` of all entries, and extras by index.

    The tensors own their memory.

    Raises:
        MalformedMessageError: lengths do not agree, an unknown dtype, or extras that do not fit.
    """
    if len(data) < _PREFIX.size:
        raise MalformedMessageError("a frame ends before its hidden states")
    code, hidden_size, extras_bytes = _PREFIX.unpack_from(data)
    dtype = _checked_dtype(code)
    num_tokens = sum([entry.num_rows * entry.num_tokens for entry in entries])
    end = _PREFIX.size + num_tokens * hidden_size * dtype.itemsize
    if hidden_size == 0 or end + extras_bytes > len(data):
        raise MalformedMessageError(
            f"expected {num_tokens} tokens of {hidden_size} values in {len(data)} bytes"
        )
    hidden = _tensor(data[_PREFIX.size : end], dtype, (num_tokens, hidden_size))
    if end == len(data):  # as nearly always
        return hidden, {}
    reader = _PromptReader(data[end + extras_bytes :], hidden_size)
    extras = _read_extras(bytes(data[end : end + extras_bytes]), entries, reader)
    reader.check_end()
    return hidden, extras


class _PromptReader:
    """Takes deep prompts, one after the other, from the end of a frame."""

    def __init__(self, data: memoryview, hidden_size: int) -> None:
        self._data = data
        self._hidden_size = hidden_size

    def take(self, description: object) -> Tensor:
        """Return the next tensor, described by its dtype and its first three sizes."""
        if not isinstance(description, list) or [type(x) for x in description] != [int] * 4:
            raise MalformedMessageError("deep prompts are described by dtype and three sizes")
        code, *sizes = description
        dtype = _checked_dtype(code)
        shape = (*sizes, self._hidden_size)
        num_bytes = prod(shape) * dtype.itemsize
        if not all(0 < size <= _MAX_PROMPT_SIZE for size in sizes) or num_bytes > len(self._data):
            raise MalformedMessageError(f"deep prompts {sizes} do not fit the frame")
        tensor = _tensor(self._data[:num_bytes], dtype, shape)
        self._data = self._data[num_bytes:]
        return tensor

    def check_end(self) -> None:
        """Refuse bytes that nobody has described."""
        if self._data:
            raise MalformedMessageError(f"{len(self._data)} bytes too many at the end of a frame")


def _read_extras(
    data: bytes, entries: Sequence[RowsEntry], reader: _PromptReader
) -> dict[int, StepExtras]:
    if not data:
        return {}
    items = unpack(data)
    if not isinstance(items, dict):
        raise MalformedMessageError("the extras of a frame are a map")
    extras = {}
    for index, item in items.items():
        if type(index) is not int or not 0 <= index < len(entries) or not isinstance(item, dict):
            raise MalformedMessageError("extras belong to an entry of their frame")
        hypo_ids, prompts = item.get("hypo_ids"), item.get("prompts")
        extras[index] = StepExtras(
            None if hypo_ids is None else _read_hypo_ids(hypo_ids, entries[index].num_rows),
            None if prompts is None else reader.take(prompts),
        )
    return extras


def _read_hypo_ids(ids: object, num_rows: int) -> Tensor:
    if not isinstance(ids, list) or [type(row) for row in ids] != [int] * num_rows:
        raise MalformedMessageError(f"hypo_ids must be {num_rows} numbers of rows")
    if not all(0 <= row <= _MAX_HYPO_ID for row in ids):
        raise MalformedMessageError(f"hypo_ids must be from 0 to {_MAX_HYPO_ID}")
    return torch.tensor(ids, dtype=torch.int64)


def _extras_to_wire(extras: StepExtras) -> dict[str, object]:
    wire: dict[str, object] = {}
    if extras.hypo_ids is not None:
        wire["hypo_ids"] = extras.hypo_ids.tolist()
    if extras.prompts is not None:
        wire["prompts"] = [_DTYPE_CODES[extras.prompts.dtype], *extras.prompts.shape[:3]]
    return wire


def _checked_dtype(code: int) -> torch.dtype:
    dtype = _DTYPES.get(code)
    if dtype is None:
        raise MalformedMessageError(f"unknown code {code} of a dtype")
    return dtype


def _raw_bytes(tensor: Tensor) -> memoryview:
    if not tensor.is_contiguous() or tensor.requires_grad:
        tensor = tensor.detach().contiguous()
    return tensor.view(torch.uint8).numpy().reshape(-1).data


def _tensor(data: memoryview, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    if not data:
        return torch.empty(*shape, dtype=dtype)
    # A bytearray is a copy that we own: it is aligned, and the tensor may be written to.
    return torch.frombuffer(bytearray(data), dtype=dtype).view(*shape)
