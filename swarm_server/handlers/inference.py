"""`rpc_inference`: one stream is one inference session. Source: PETALS_PROTOCOL §3.

    caller                                   server
      | first message: chain, max_length,  --> | checks, reserves KV memory, runs
      |     hidden states                      |
      | <------------------- hidden states     | one reply per distinct step
      | message without tensors -------------> | frees KV memory, ends the stream

Whatever is wrong ends the session with an error frame, and its KV memory is back in every case.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.logs import get_logger
from swarm_protocol.messages import ExpertResponse
from swarm_protocol.node import ServedStream
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.engine import ComputeThread, Span
from swarm_server.errors import ServerDrainingError, SessionExpiredError, StepFailedError
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.opening import ServedModel, read_opening
from swarm_server.handlers.session import ServedSession
from swarm_server.handlers.step_request import StepRequest, parse_request

log = get_logger(__name__)

_LARGE_BYTES: Final = 256 * 1024
"""Larger messages are packed and unpacked in a thread: that takes milliseconds."""


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """How long a session may wait for its next step, and last altogether; seconds."""

    step_s: float
    session_s: float


class InferenceHandler:
    """Serves inference sessions on one span."""

    def __init__(
        self,
        model: ServedModel,
        span: Span,
        compute: ComputeThread,
        admission: Admission,
        timeouts: SessionTimeouts,
    ) -> None:
        self._model = model
        self._span = span
        self._compute = compute
        self._admission = admission
        self._timeouts = timeouts
        self._deadlines: set[asyncio.Timeout] = set()

    def end_all(self) -> None:
        """End every session now; memory of those in a step is back when the step ends."""
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)

    async def serve(self, stream: ServedStream) -> None:
        """Serve one stream until the caller ends the session, leaves, or does something wrong.

        Raises:
            SwarmError: its text goes to the caller.
        """
        try:
            async with asyncio.timeout(self._timeouts.session_s) as deadline:
                self._deadlines.add(deadline)
                try:
                    await self._serve(stream)
                finally:
                    self._deadlines.discard(deadline)
        except SwarmError as error:
            log.warning("session_failed", peer=stream.caller, code=error.code)
            raise
        except TimeoutError:
            raise self._expired() from None
        except Exception as error:
            log.exception("session_crashed", peer=stream.caller)
            raise StepFailedError from error

    def _expired(self) -> SwarmError:
        if self._admission.is_draining:
            return ServerDrainingError()
        return SessionExpiredError(
            f"the session lasted longer than {self._timeouts.session_s:g} seconds"
        )

    async def _serve(self, stream: ServedStream) -> None:
        request = await self._receive(stream)
        if request is None:
            return
        opening = read_opening(request, self._model)
        session = ServedSession(opening, self._span, self._compute)
        release = await self._admission.admit(opening)
        try:
            while request is not None:
                reply = await session.step(request)
                if reply is not None:
                    await self._send(stream, reply)
                request = await self._receive(stream)
        finally:
            session.close(release)
            log.info(
                "session_ended",
                peer=stream.caller,
                blocks=str(opening.blocks),
                num_rows=opening.batch_size,
                num_tokens=session.position,
            )

    async def _receive(self, stream: ServedStream) -> StepRequest | None:
        """Return the next message; None when the session is over or has been idle too long."""
        try:
            async with asyncio.timeout(self._timeouts.step_s):
                frame = await stream.receive()
        except TimeoutError:
            return None
        if frame is None:
            return None
        if len(frame) > self._model.max_frame_bytes:
            raise MalformedMessageError(
                f"expected a step of at most {self._model.max_frame_bytes} bytes, got {len(frame)}"
            )
        if len(frame) > _LARGE_BYTES:
            return await asyncio.to_thread(parse_request, frame)
        return parse_request(frame)

    async def _send(self, stream: ServedStream, hidden: Tensor) -> None:
        if hidden.nbytes > _LARGE_BYTES:
            frame = await asyncio.to_thread(_encode_reply, hidden)
        else:
            frame = _encode_reply(hidden)
        try:
            async with asyncio.timeout(self._timeouts.step_s):
                await stream.send(frame)
        except TimeoutError:
            raise SessionExpiredError(
                f"nobody has taken the reply for {self._timeouts.step_s:g} seconds"
            ) from None


def _encode_reply(hidden: Tensor) -> bytes:
    frame: bytes = ExpertResponse(tensors=[encode_tensor(hidden)]).SerializeToString()
    return frame
