"""`rpc_inference`: one stream is one inference session. Source: PETALS_PROTOCOL §3.

    caller                                   server
      | first message: chain, max_length,  --> | checks, reserves KV memory, runs
      |     hidden states                      |
      | <------------------- hidden states     | one reply per distinct step
      | message without tensors -------------> | frees KV memory, ends the stream

Whatever is wrong ends the session with an error frame, and its KV memory is back in every case.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.messages import ExpertResponse
from swarm_protocol.node import ServedStream
from swarm_server.engine.serving import Engine, SessionRequest
from swarm_server.errors import ServerDrainingError, SessionExpiredError, StepFailedError
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.live_session import LiveSession
from swarm_server.handlers.opening import Opening, ServedModel, read_opening
from swarm_server.handlers.pusher import Pusher
from swarm_server.handlers.session import ServedSession
from swarm_server.handlers.session_ends import log_session_end
from swarm_server.handlers.session_frames import SessionFrames, parse_frame

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """How long a session may wait for its next step, and last altogether; seconds."""

    step_s: float
    session_s: float


class InferenceHandler:
    """Serves inference sessions on one engine."""

    def __init__(
        self,
        model: ServedModel,
        engine: Engine,
        admission: Admission,
        timeouts: SessionTimeouts,
        pusher: Pusher,
    ) -> None:
        self._model = model
        self._engine = engine
        self._admission = admission
        self._timeouts = timeouts
        self._pusher = pusher
        self._sessions: dict[str, LiveSession] = {}
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

    async def push(self, data: bytes, _caller: PeerId) -> bytes:
        """Answer `rpc_push`: a step of one of our sessions, from a server before us.

        The step of a session that is not here is ignored, as stock servers do.

        Raises:
            MalformedMessageError, RequestRefusedError: it fails a check; the session goes on.
        """
        request = await parse_frame(data, self._model.max_frame_bytes)
        if request is None:
            raise MalformedMessageError("a pushed step has no tensors")
        session = self._sessions.get(request.metadata.session_id or "")
        if session is not None:
            await session.push(request)
        reply: bytes = ExpertResponse().SerializeToString()
        return reply

    async def _serve(self, stream: ServedStream) -> None:
        frames = SessionFrames(
            stream,
            max_frame_bytes=self._model.max_frame_bytes,
            step_timeout_s=self._timeouts.step_s,
        )
        request = await frames.receive()
        if request is None:
            return
        opening = read_opening(request, self._model)
        wanted = _session_request(opening, stream.caller)
        admitted = await self._admission.open(
            opening, lambda: ServedSession(opening, self._engine.open(wanted))
        )
        session = admitted.session
        try:
            with self._reachable(
                opening.session_id, LiveSession(session, frames, self._pusher)
            ) as live:
                await live.run(request)
        finally:
            session.close(admitted.release)
            log_session_end(
                stream.caller,
                opening.blocks,
                num_rows=opening.batch_size,
                num_tokens=session.position,
            )
        await frames.linger()

    @contextmanager
    def _reachable(self, session_id: str | None, live: LiveSession) -> Iterator[LiveSession]:
        """Let pushes find a session; its id is unique, for it was admitted."""
        if session_id is None:
            yield live
            return
        self._sessions[session_id] = live
        try:
            yield live
        finally:
            del self._sessions[session_id]


def _session_request(opening: Opening, caller: PeerId) -> SessionRequest:
    return SessionRequest(
        blocks=opening.blocks,
        num_rows=opening.batch_size,
        max_length=opening.max_length,
        tenant=caller,
        adapter=opening.adapter,
        wait_s=opening.wait_s,
    )
