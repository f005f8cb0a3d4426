"""The serving end of one stream: sessions of one client, opened, stepped and ended by frames.

    client ── frames ──> reader ──> LaneSession … ──> engine
       ^                                                │
       └──────── writer <── Replies <── outputs ────────┘

What one session does wrong ends that session; what no right client sends ends the stream.
"""

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from swarm_protocol.dialect import (
    NO_SESSION,
    WANTS_PUSH,
    CancelFrame,
    CloseFrame,
    Opened,
    OpenFrame,
    Opening,
    PushedFrame,
    StepsFrame,
    good_frame_tokens,
)
from swarm_protocol.dialect.decoding import Request
from swarm_protocol.errors import SwarmError
from swarm_protocol.logs import get_logger
from swarm_protocol.node import ServedStream
from swarm_server.engine.serving.requests import StepResult
from swarm_server.errors import (
    InvalidStepError,
    ServerDrainingError,
    SessionExpiredError,
    SessionNotUniqueError,
)
from swarm_server.handlers.dialect.arrivals import Arrivals, steps_of
from swarm_server.handlers.dialect.failures import describe_failure, presentable
from swarm_server.handlers.dialect.inflight import AllInflight, InflightTokens
from swarm_server.handlers.dialect.lane_session import LaneSession
from swarm_server.handlers.dialect.lane_step import LaneStep
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.dialect.opener import SessionOpener
from swarm_server.handlers.dialect.push_lanes import PushLanes
from swarm_server.handlers.dialect.replies import Replies
from swarm_server.handlers.opening import ServedModel
from swarm_server.handlers.session_ends import log_session_end

log = get_logger(__name__)

_CHECKS_PER_TIMEOUT: Final = 4


@dataclass(frozen=True, slots=True)
class LaneServices:
    """What all streams of a server share.

    `by_token` finds the sessions that pushes name; `inflight` is what all streams have in work;
    for `call_afterwards` see `SessionEngine`.
    """

    model: ServedModel
    limits: LaneLimits
    opener: SessionOpener
    pushes: PushLanes
    by_token: MutableMapping[bytes, LaneSession]
    inflight: AllInflight
    call_afterwards: Callable[[Callable[[], None]], None]


class ServedLane:
    """Serves one stream; `run` does all of it."""

    def __init__(self, stream: ServedStream, services: LaneServices) -> None:
        self._stream = stream
        self._services = services
        self._limits = services.limits
        self._arrivals = Arrivals(stream, services.model, services.limits.max_frame_tokens)
        self._inflight = InflightTokens(services.limits.max_inflight_tokens, services.inflight)
        frame_tokens = min(
            services.limits.max_frame_tokens, good_frame_tokens(services.model.hidden_size)
        )
        self._replies = Replies(self._inflight, frame_tokens=frame_tokens)
        self._sessions: dict[int, LaneSession] = {}
        self._openings: dict[LaneSession, asyncio.Task[None]] = {}  # ids may be used again
        self._clock = asyncio.get_running_loop().time
        self._sending_since: float | None = None

    async def run(self) -> None:
        """Serve until the client ends the stream or this is cancelled; then no session is left.

        Raises:
            ExceptionGroup: of what ended the stream.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(self._write()), tasks.create_task(self._watch())]
                await self._read(tasks)
                for task in (*others, *self._openings.values()):
                    task.cancel()
        finally:
            for session in list(self._sessions.values()):
                self._end(session)
            self._inflight.leave()

    def tell_draining(self) -> None:
        """Say that the server is about to stop; sessions go on."""
        self._replies.add_failure(describe_failure(NO_SESSION, ServerDrainingError()))

    # What sessions ask of their owner.

    def deliver(self, session: LaneSession, step: LaneStep, result: StepResult) -> None:
        """Send outputs to the next server, if the step wants that, and then to the client."""
        services, opening = self._services, session.opening
        session.idle_since = self._clock()
        target = opening.push_to
        is_copy = (
            target is not None
            and bool(step.entry.flags & WANTS_PUSH)
            and services.pushes.push(target, step, result.rows)
        )
        if is_copy:
            services.call_afterwards(services.pushes.send)
        self._replies.add_output(opening.session_id, step, result, is_copy=is_copy)
        services.call_afterwards(self._send)

    def fail(self, session: LaneSession, error: SwarmError) -> None:
        """End a session by an error."""
        self._end(session)
        session_id = session.opening.session_id
        self._replies.add_failure(describe_failure(session_id, error))
        log.warning("session_failed", peer=self._stream.caller, code=error.code)

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        await self._inflight.wait_for_room()
        while (frame := await self._arrivals.receive()) is not None:
            self._take(frame, tasks)
            await self._inflight.wait_for_room()

    async def _write(self) -> None:
        while True:
            await self._replies.wait()
            while (reply := self._replies.next_frame()) is not None:
                self._sending_since = self._clock()
                await self._stream.send(reply.data)
                self._sending_since = None
                self._inflight.remove(reply.num_inflight)

    def _send(self) -> None:
        """Send at once what there is room for; `_write` sends the rest."""
        while self._stream.has_room and (reply := self._replies.next_frame()) is not None:
            self._stream.send_now(reply.data)
            self._inflight.remove(reply.num_inflight)
        self._replies.wake_if_any()

    async def _watch(self) -> None:
        """End what lasts longer than the server allows.

        Sessions that wait for their next step, or altogether; or the stream, when nobody takes a
        reply: a timeout of each would cost more than the sending.
        """
        limits = self._limits
        while True:
            await asyncio.sleep(min(limits.step_s, limits.session_s) / _CHECKS_PER_TIMEOUT)
            now = self._clock()
            if self._sending_since is not None and now - self._sending_since > limits.step_s:
                raise SessionExpiredError(f"nobody has taken a reply for {limits.step_s:g} seconds")
            for session in list(self._sessions.values()):
                if session.is_idle and now - session.idle_since > limits.step_s:
                    self.fail(session, _expired("waited for its next step", limits.step_s))
                elif session.has_begun and now - session.opened_at > limits.session_s:
                    self.fail(session, _expired("lasted", limits.session_s))

    def _take(self, frame: Request, tasks: asyncio.TaskGroup) -> None:
        match frame:
            case StepsFrame():
                self._take_steps(frame)
            case PushedFrame():
                self._take_pushed(frame)
            case OpenFrame():
                for opening in frame.openings:
                    self._open(opening, tasks)
            case CloseFrame():
                for session in self._named(frame.session_ids):
                    self._end(session)
            case CancelFrame():
                for session in self._named(frame.session_ids):
                    session.cancel()

    def _take_steps(self, frame: StepsFrame) -> None:
        for entry, step in zip(frame.entries, steps_of(frame), strict=True):
            session = self._sessions.get(entry.session_id)
            if session is None:
                error = InvalidStepError(f"there is no session {entry.session_id}")
                self._replies.add_failure(describe_failure(entry.session_id, error))
            else:
                session.take(step)

    def _take_pushed(self, frame: PushedFrame) -> None:
        for entry, step in zip(frame.entries, steps_of(frame), strict=True):
            session = self._services.by_token.get(entry.token)
            if session is not None:
                session.take_pushed(step)

    def _open(self, opening: Opening, tasks: asyncio.TaskGroup) -> None:
        session_id = opening.session_id
        if existing := self._sessions.get(session_id):
            self.fail(existing, SessionNotUniqueError(str(session_id)))
            return
        session = LaneSession(opening, self, self._inflight)
        self._sessions[session_id] = session
        if opening.token in self._services.by_token:
            self.fail(session, SessionNotUniqueError(str(session_id)))
            return
        self._services.by_token[opening.token] = session
        task = self._openings[session] = tasks.create_task(self._begin(session))
        task.add_done_callback(lambda _: self._openings.pop(session))

    async def _begin(self, session: LaneSession) -> None:
        try:
            cached_tokens = await self._services.opener.open(session, self._stream.caller)
        except Exception as error:
            self.fail(session, presentable(error))
            return
        session.opened_at = session.idle_since = self._clock()
        if not session.is_closed:
            self._replies.add_opened(Opened(session.opening.session_id, cached_tokens))

    def _named(self, session_ids: Sequence[int]) -> list[LaneSession]:
        """Return those sessions that there are; others have ended, and the client will hear it."""
        return [self._sessions[each] for each in session_ids if each in self._sessions]

    def _end(self, session: LaneSession) -> None:
        session.close()
        opening = session.opening
        self._sessions.pop(opening.session_id, None)
        if self._services.by_token.get(opening.token) is session:
            del self._services.by_token[opening.token]
        if (task := self._openings.get(session)) is not None:
            task.cancel()
        log_session_end(
            self._stream.caller,
            opening.blocks,
            num_rows=opening.num_rows,
            num_tokens=session.end,
        )


def _expired(what: str, limit_s: float) -> SessionExpiredError:
    return SessionExpiredError(f"the session {what} longer than {limit_s:g} seconds")
