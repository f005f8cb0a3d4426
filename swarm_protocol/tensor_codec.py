"""Tensors on the wire: codecs NONE (both bfloat16 forms) and FLOAT16, checked field by field.

Source: PETALS_PROTOCOL §2.2 and §2.3. The other codecs of hivemind are refused by name.
"""

from collections.abc import Sequence
from enum import IntEnum
from math import prod
from typing import Final

import numpy as np
import torch
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import TensorMessage

MAX_TENSOR_BYTES: Final = 64 * 1024 * 1024
MAX_DIMENSIONS: Final = 8
_MAX_STRIDE: Final = 2**63 - 1  # torch counts strides of an empty tensor, too
DTYPES: Final = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class Compression(IntEnum):
    """Codec of one tensor message; the numbers are hivemind's."""

    NONE = 0
    MEANSTD_16BIT = 1
    FLOAT16 = 2
    QUANTILE_8BIT = 3
    UNIFORM_8BIT = 4
    BLOCKWISE_8BIT = 5


def absent_prompts() -> Tensor:
    """Return the empty float tensor that stands for "no deep prompts"."""
    return torch.empty(0)


def absent_hypo_ids() -> Tensor:
    """Return the empty int64 tensor that stands for "keep the order of rows"."""
    return torch.empty(0, dtype=torch.int64)


def is_absent(tensor: Tensor) -> bool:
    """Tell whether a received tensor is a stand-in for "not given"."""
    return tensor.numel() == 0


def dtype_name(dtype: torch.dtype) -> str:
    """Return the wire's name of a dtype, e.g. `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def encode_tensor(tensor: Tensor, compression: Compression = Compression.NONE) -> TensorMessage:
    """Return the message of a CPU tensor.

    Raises:
        MalformedMessageError: the codec is not NONE or FLOAT16, or FLOAT16 of a bfloat16 or
            integer tensor (hivemind refuses those, too).
    """
    name = dtype_name(tensor.dtype)
    if compression == Compression.FLOAT16 and tensor.dtype in (torch.float32, torch.float16):
        limit = torch.finfo(torch.float16).max
        tensor = tensor.clamp(-limit, limit).to(torch.float16)
    elif compression != Compression.NONE:
        raise MalformedMessageError(f"cannot encode {name} with codec {_codec_name(compression)}")
    return TensorMessage(
        buffer=_raw_bytes(tensor), size=tensor.shape, dtype=name, compression=compression
    )


def decode_tensor(message: TensorMessage, *, max_bytes: int = MAX_TENSOR_BYTES) -> Tensor:
    """Return the tensor of a message, in memory of its own, on the CPU.

    Raises:
        MalformedMessageError: unknown dtype or codec, too many dimensions or bytes, or a buffer
            whose length does not fit the shape.
    """
    dtype = DTYPES.get(message.dtype)
    if dtype is None:
        raise MalformedMessageError(f"unknown tensor dtype {message.dtype!r:.40}")
    shape = tuple(message.size)
    count = _checked_count(shape, dtype, max_bytes)
    if message.compression == Compression.FLOAT16:
        if not dtype.is_floating_point or dtype == torch.bfloat16:
            raise MalformedMessageError(f"codec FLOAT16 does not carry {message.dtype}")
        return _from_buffer(message.buffer, torch.float16, count).to(dtype).reshape(shape)
    if message.compression != Compression.NONE:
        raise MalformedMessageError(
            f"codec {_codec_name(message.compression)} is not supported; use NONE or FLOAT16"
        )
    if dtype == torch.bfloat16 and count and len(message.buffer) == 4 * count:
        # The form of older hivemind: bfloat16 values carried as float32.
        return _from_buffer(message.buffer, torch.float32, count).to(dtype).reshape(shape)
    return _from_buffer(message.buffer, dtype, count).reshape(shape)


def _checked_count(shape: Sequence[int], dtype: torch.dtype, max_bytes: int) -> int:
    if len(shape) > MAX_DIMENSIONS:
        raise MalformedMessageError(
            f"expected at most {MAX_DIMENSIONS} dimensions, got {len(shape)}"
        )
    count = prod(shape)
    if count * dtype.itemsize > max_bytes:
        raise MalformedMessageError(
            f"a tensor of {count} values of {dtype_name(dtype)} is over the limit of {max_bytes} "
            f"bytes"
        )
    if count == 0 and prod([size or 1 for size in shape]) > _MAX_STRIDE:
        raise MalformedMessageError(f"no tensor has the sizes {shape!s:.200}")
    return count


def _from_buffer(buffer: bytes, dtype: torch.dtype, count: int) -> Tensor:
    expected = count * dtype.itemsize
    if len(buffer) != expected:
        raise MalformedMessageError(
            f"expected {expected} bytes for {count} values of {dtype_name(dtype)}, "
            f"got {len(buffer)}"
        )
    if count == 0:
        return torch.empty(0, dtype=dtype)
    # A bytearray is a copy that we own, so the tensor may be written to.
    return torch.frombuffer(bytearray(buffer), dtype=dtype)


def _raw_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().view(-1)
    if flat.numel() == 0:
        return b""
    raw: np.ndarray[tuple[int], np.dtype[np.uint8]] = flat.view(torch.uint8).numpy()
    return raw.tobytes()


def _codec_name(code: int) -> str:
    try:
        return Compression(code).name
    except ValueError:
        return str(code)
