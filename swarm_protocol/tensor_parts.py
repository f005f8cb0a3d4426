"""Tensors in the `_stream` methods: cut into parts that fit a message, and put together again.

The first part of a tensor has all of its fields and the number of its parts; later ones have only
a piece of the buffer. A part that names a dtype begins the next tensor. Pure: frames, uids and
metadata are the caller's. Source: PETALS_PROTOCOL §2.6.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import TensorMessage

PART_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of one part's buffer."""

MAX_UNARY_TENSOR_BYTES: Final = 1024 * 1024
"""A caller whose tensors hold more than this, all together, uses the `_stream` method."""


def split_tensors(
    tensors: Iterable[TensorMessage], *, part_bytes: int = PART_BYTES
) -> Iterator[TensorMessage]:
    """Yield the parts of some tensors, in order; one that fits is one part."""
    for tensor in tensors:
        buffer = tensor.buffer
        yield TensorMessage(
            buffer=buffer[:part_bytes],
            size=tensor.size,
            requires_grad=tensor.requires_grad,
            dtype=tensor.dtype,
            compression=tensor.compression,
            chunks=-(-len(buffer) // part_bytes),
        )
        for start in range(part_bytes, len(buffer), part_bytes):
            yield TensorMessage(buffer=buffer[start : start + part_bytes])


class PartAssembler:
    """Puts the parts of one stream together, within bounds.

    What it holds never exceeds `max_bytes`, whatever a peer sends. After an error it is of no
    more use.
    """

    def __init__(self, *, max_tensors: int, max_bytes: int) -> None:
        """Begin with no tensor.

        Args:
            max_tensors: most tensors of the stream.
            max_bytes: most bytes of all buffers together.
        """
        self._max_tensors = max_tensors
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._tensors: list[TensorMessage] = []
        self._first: TensorMessage | None = None
        self._buffer = bytearray()
        self._num_parts = 0

    def add(self, part: TensorMessage) -> None:
        """Take the next part.

        Raises:
            MalformedMessageError: too many tensors, parts or bytes, or a part out of order.
        """
        self._num_bytes += len(part.buffer)
        if self._num_bytes > self._max_bytes:
            raise MalformedMessageError(
                f"the tensors are over the limit of {self._max_bytes} bytes"
            )
        if part.dtype:
            self._begin(part)
        elif self._first is None:
            raise MalformedMessageError("the first part of a tensor must name its dtype")
        elif not part.buffer:
            raise MalformedMessageError("a later part of a tensor must not be empty")
        self._buffer += part.buffer
        self._num_parts += 1

    def finish(self) -> list[TensorMessage]:
        """Return the whole tensors, after the last part.

        Raises:
            MalformedMessageError: a part of the last tensor is missing.
        """
        self._end()
        return self._tensors

    def _begin(self, part: TensorMessage) -> None:
        self._end()
        if len(self._tensors) == self._max_tensors:
            raise MalformedMessageError(f"expected at most {self._max_tensors} tensors")
        self._first, self._num_parts = part, 0
        self._buffer.clear()

    def _end(self) -> None:
        first = self._first
        if first is None:
            return
        if first.chunks and first.chunks != self._num_parts:  # 0: the sender does not say
            raise MalformedMessageError(
                f"expected a tensor in {first.chunks} parts, got {self._num_parts}"
            )
        self._first = None
        self._tensors.append(
            TensorMessage(
                buffer=bytes(self._buffer),
                size=first.size,
                requires_grad=first.requires_grad,
                dtype=first.dtype,
                compression=first.compression,
            )
        )
