"""The frames of one inference session: requests parsed within bounds, replies sent in time."""

import asyncio
from contextlib import suppress
from typing import Final

from torch import Tensor

from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.messages import ExpertResponse
from swarm_protocol.node import ServedStream
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.errors import SessionExpiredError
from swarm_server.handlers.step_request import StepRequest, parse_request

_LARGE_BYTES: Final = 256 * 1024
"""Larger messages are packed and unpacked in a thread: that takes milliseconds."""

_LINGER_S: Final = 1.0


class SessionFrames:
    """Receives steps and sends their replies on one stream."""

    def __init__(
        self, stream: ServedStream, *, max_frame_bytes: int, step_timeout_s: float
    ) -> None:
        """Take over a stream.

        Args:
            stream: of the caller.
            max_frame_bytes: a larger request ends the session.
            step_timeout_s: how long a request or the sending of a reply may take.
        """
        self._stream = stream
        self._max_frame_bytes = max_frame_bytes
        self._step_timeout_s = step_timeout_s
        self._waiting: asyncio.Timeout | None = None
        self._failure: SwarmError | None = None

    async def receive(self) -> StepRequest | None:
        """Return the next request; None when the session is over or has been idle too long.

        Raises:
            MalformedMessageError: the frame is too large, or no request.
            SwarmError: given to `fail`.
        """
        self.check()
        try:
            async with asyncio.timeout(self._step_timeout_s) as self._waiting:
                frame = await self._stream.receive()
        except TimeoutError:
            self.check()
            return None
        finally:
            self._waiting = None
        if frame is None:
            return None
        return await parse_frame(frame, self._max_frame_bytes)

    async def send(self, hidden: Tensor) -> None:
        """Send a reply.

        Raises:
            SessionExpiredError: nobody takes it.
            PeerUnreachableError: the caller is gone.
        """
        if hidden.nbytes > _LARGE_BYTES:
            frame = await asyncio.to_thread(_encode_reply, hidden)
        else:
            frame = _encode_reply(hidden)
        try:
            async with asyncio.timeout(self._step_timeout_s):
                await self._stream.send(frame)
        except TimeoutError:
            raise SessionExpiredError(
                f"nobody has taken the reply for {self._step_timeout_s:g} seconds"
            ) from None

    async def linger(self) -> None:
        """Wait a moment for the caller to end the stream, too; what it still sends is thrown away.

        Petals' clients write to it once more after their last message. Where the stream is gone by
        then they take the session for open, and may wait for its end for ever.
        """
        with suppress(TimeoutError, SwarmError):
            async with asyncio.timeout(_LINGER_S):
                await self._stream.receive()

    def fail(self, error: SwarmError) -> None:
        """Let `receive` raise an error now, or when it is called next."""
        self._failure = error
        self._wait_for(0)

    def check(self) -> None:
        """Raise what was given to `fail`."""
        if self._failure is not None:
            raise self._failure

    def postpone(self) -> None:
        """Let the time for the next request begin anew."""
        self._wait_for(self._step_timeout_s)

    def _wait_for(self, timeout_s: float) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.expired():
            waiting.reschedule(asyncio.get_running_loop().time() + timeout_s)


async def parse_frame(frame: bytes, max_frame_bytes: int) -> StepRequest | None:
    """Return what a frame holds; None for the end of a session.

    Raises:
        MalformedMessageError: it is too large, or no request.
    """
    if len(frame) > max_frame_bytes:
        raise MalformedMessageError(
            f"expected a step of at most {max_frame_bytes} bytes, got {len(frame)}"
        )
    if len(frame) > _LARGE_BYTES:
        return await asyncio.to_thread(parse_request, frame)
    return parse_request(frame)


def _encode_reply(hidden: Tensor) -> bytes:
    frame: bytes = ExpertResponse(tensors=[encode_tensor(hidden)]).SerializeToString()
    return frame
