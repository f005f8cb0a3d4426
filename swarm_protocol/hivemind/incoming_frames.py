"""From bytes as they come to frames, received straight into the memory they are read from. Pure."""

from collections.abc import Iterator
from typing import Final

from swarm_protocol.hivemind.frames import HEADER, parse_header

_SPARE_BYTES: Final = 16 * 1024
"""A read that fills all the room it was given is followed by another one, often in vain."""

_MOST_KEPT_BYTES: Final = 1024 * 1024
"""Memory beyond it goes with the frame that needed it."""


class IncomingFrames:
    """Says where the next bytes belong, and yields what they complete."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(_SPARE_BYTES))
        self._num_received = 0  # bytes at its start, of a frame that is not complete

    @property
    def is_inside(self) -> bool:
        """Whether a part of a frame is there."""
        return self._num_received > 0

    def room(self) -> memoryview:
        """Return where the next bytes go, at least one and no more than it holds."""
        return self._memory[self._num_received :]

    def received(self, num_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Take note of bytes in `room`; yield marker and payload of each frame that is complete.

        Raises:
            MalformedMessageError: of a header; what follows is no frame either.
        """
        start, end = 0, self._num_received + num_bytes
        frame_bytes = HEADER.size
        while start + frame_bytes <= end:
            payload_start = start + HEADER.size
            marker, payload_bytes = parse_header(self._memory[start:payload_start])
            frame_bytes = HEADER.size + payload_bytes
            if start + frame_bytes <= end:
                yield marker, bytes(self._memory[payload_start : start + frame_bytes])
                start, frame_bytes = start + frame_bytes, HEADER.size
        self._keep(start, end, frame_bytes)

    def _keep(self, start: int, end: int, frame_bytes: int) -> None:
        """Move the bytes of a frame that is not complete to where there is room for all of it."""
        if start == end and len(self._memory) <= _MOST_KEPT_BYTES:  # as nearly always
            self._num_received = 0
            return
        rest = self._memory[start:end]
        is_too_small = len(self._memory) <= frame_bytes
        if is_too_small or len(self._memory) > _MOST_KEPT_BYTES > frame_bytes:
            self._memory = memoryview(bytearray(frame_bytes + _SPARE_BYTES))
        self._memory[: len(rest)] = rest
        self._num_received = len(rest)
