"""One stream to one server, shared by all sessions that we have there, in our own dialect.

```
sessions ── open, submit, cancel, leave ──> Outbox ── all that waits ──> writer ──> server
    ^                                                                                 │
    └───────────────── all answers of a frame at once ─────────── reader <────────────┘
```
Sessions that are answered together step on together, so their next steps share a frame again. It
leaves with the last of them; the writer sends what finds no room, and all that nobody expects.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

import torch
from torch import Tensor

from swarm_client.lanes.deadlines import Deadlines
from swarm_client.lanes.lane_session import LaneHopSession
from swarm_client.lanes.mail import encode_mail, session_failure
from swarm_client.lanes.outbox import LaneStep, Outbox
from swarm_client.routing import Hop
from swarm_client.session.hop_session import SessionTerms
from swarm_client.session.step_checks import is_finite
from swarm_protocol.busy_polling import BusyPolling
from swarm_protocol.dialect import (
    DRAINING_CODE,
    NO_SESSION,
    FailedFrame,
    Failure,
    HelloReply,
    OpenedFrame,
    Opening,
    OutputEntry,
    OutputsFrame,
    decode_reply,
    good_frame_tokens,
    split_rows,
)
from swarm_protocol.errors import (
    MalformedMessageError,
    PeerError,
    PeerMisbehavedError,
    PeerUnreachableError,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import MAX_FRAME_BYTES, CallStream


class Lane:
    """An open stream; `run` must be running. All methods belong to one event loop.

    Attributes:
        peer: the server.
        deadlines: of all its sessions.
        dtype, max_step_tokens, page_size, step_flags: as the server said; see `SharedStream`.
    """

    def __init__(
        self,
        peer: PeerId,
        stream: CallStream,
        hello: HelloReply,
        on_leaving: Callable[[PeerId], None] = lambda peer: None,
        polling: BusyPolling | None = None,
    ) -> None:
        """Take a stream that is open.

        Args:
            peer: the server.
            stream: to it, of `swarmgate.steps`.
            hello: what it has said about itself.
            on_leaving: is told when the server is about to stop.
            polling: keeps the loop awake while sessions decode; None to sleep until outputs come.
        """
        self.peer = peer
        self.deadlines = Deadlines()
        self.dtype = hello.dtype
        self.page_size = hello.page_size
        self.step_flags = hello.step_flags
        self._on_leaving = on_leaving
        self._polling = polling
        self._hidden_size = hello.hidden_size
        self._stream = stream
        # half of a frame is left for deep prompts and everything else
        frame_tokens = MAX_FRAME_BYTES // 2 // (hello.dtype.itemsize * hello.hidden_size)
        self._outbox = Outbox(
            max_frame_tokens=min(hello.max_frame_tokens, frame_tokens),
            good_frame_tokens=good_frame_tokens(hello.hidden_size),
            max_inflight_tokens=hello.max_inflight_tokens,
        )
        self.max_step_tokens = self._outbox.max_step_tokens
        self._has_mail = asyncio.Event()
        self._frames: deque[bytes] = deque()  # of mail that is being sent
        self._due: set[int] = set()  # sessions that were answered and may step on
        self._sessions: dict[int, LaneHopSession] = {}
        self._ids = count(1)
        self._failure: PeerError | None = None
        self._is_retired = False

    @property
    def is_open(self) -> bool:
        """Whether new sessions may use it."""
        return self._failure is None and not self._is_retired

    @property
    def is_lost(self) -> bool:
        """Whether its connection broke while new sessions might have used it."""
        return isinstance(self._failure, PeerUnreachableError) and not self._is_retired

    def session(self, hop: Hop, terms: SessionTerms) -> LaneHopSession:
        """Return a new session in this lane; the server hears of it when it is used."""
        session = LaneHopSession(self, hop, next(self._ids), terms)
        self._sessions[session.session_id] = session
        if self._failure is not None:
            session.fail(_copy(self._failure))
        return session

    def open(self, opening: Opening) -> None:
        """Announce a session."""
        self._outbox.open(opening)
        self._has_mail.set()

    def submit(self, step: LaneStep) -> None:
        """Send a step with all others of this turn of the event loop, at once if it is the last."""
        self._outbox.add(step)
        if self._polling is not None and step.entry.num_tokens == 1:
            self._polling.stay_awake()
        due, session_id = self._due, step.entry.session_id
        if session_id in due:
            due.remove(session_id)
            if not due:
                self._send()
                return
        self._has_mail.set()

    def cancel(self, session_id: int) -> None:
        """Nobody waits for a session's step any more."""
        self._outbox.cancel(session_id)
        self._has_mail.set()

    def leave(self, session_id: int) -> None:
        """End a session, and what it has under way."""
        self._due.discard(session_id)
        if self._sessions.pop(session_id, None) is not None:
            self._outbox.answered((session_id,))
            self._outbox.close(session_id)
            self._has_mail.set()
            self._close_if_unused()

    def retire(self) -> None:
        """Take no new sessions; when the last one has left, the stream ends."""
        self._is_retired = True
        self._close_if_unused()

    async def run(self) -> None:
        """Carry frames both ways until the stream ends or this is cancelled.

        All sessions then learn of it at once.
        """
        failure: PeerError = PeerUnreachableError(self.peer, "we have closed the stream")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._read())
        except* PeerError as failures:
            first = failures.exceptions[0]
            if isinstance(first, PeerError):
                failure = first
        finally:
            self._failure = failure
            self._stream.close()
            for session in list(self._sessions.values()):
                session.fail(_copy(failure))
            self.deadlines.clear()  # nobody waits any more

    def _close_if_unused(self) -> None:
        if self._is_retired and not self._sessions:
            self._stream.close()  # the reader notices

    async def _write(self) -> None:
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            while frame := self._next_frame():  # while one is sent, the next mail comes together
                await self._stream.send(frame)

    def _send(self) -> None:
        """Send what there is room for; the writer sends the rest."""
        stream = self._stream
        while stream.has_room:
            if (frame := self._next_frame()) is None:
                return
            stream.send_now(frame)
        self._has_mail.set()

    def _next_frame(self) -> bytes | None:
        """Take out what is sent next; None when nothing may be."""
        if not self._frames:
            self._frames.extend(encode_mail(self._outbox.next_mail()))
        return self._frames.popleft() if self._frames else None

    async def _read(self) -> None:
        while (data := await self._stream.receive()) is not None:
            try:
                frame = decode_reply(data)
            except MalformedMessageError as error:
                raise PeerMisbehavedError(self.peer, str(error)) from error
            match frame:
                case OutputsFrame():
                    self._deliver(frame)
                case OpenedFrame():
                    for opened in frame.opened:
                        if session := self._sessions.get(opened.session_id):
                            session.take_opened(opened.cached_tokens)
                case FailedFrame():
                    for failure in frame.failures:
                        self._end(failure)
        raise PeerUnreachableError(self.peer, "it ended the stream")

    def _deliver(self, frame: OutputsFrame) -> None:
        """Hand all outputs out in this turn of the event loop, so that what follows is one frame.

        Those of sessions that have left are nobody's.
        """
        entries, hidden = frame.entries, frame.hidden
        if hidden.shape[1] != self._hidden_size or hidden.dtype != self.dtype:
            raise PeerMisbehavedError(
                self.peer, f"its hidden states are {hidden.shape[1]} values of {hidden.dtype}"
            )
        are_all_finite = is_finite(hidden)
        for entry, rows in zip(entries, _own_rows(entries, hidden), strict=True):
            session = self._sessions.get(entry.session_id)
            if session is None:
                continue
            if are_all_finite or is_finite(rows):
                self._due.add(entry.session_id)
                session.take_output(entry, rows)
            else:
                session.fail(PeerMisbehavedError(self.peer, "its hidden states are not finite"))
        self._make_room([entry.session_id for entry in entries])

    def _make_room(self, session_ids: Sequence[int]) -> None:
        """Steps of these sessions are over, and others that waited may leave."""
        self._outbox.answered(session_ids)
        if self._outbox.has_waiting:
            self._has_mail.set()

    def _end(self, failure: Failure) -> None:
        if failure.session_id == NO_SESSION:
            if failure.code == DRAINING_CODE:
                self._on_leaving(self.peer)
            return
        self._make_room([failure.session_id])
        session = self._sessions.get(failure.session_id)
        if session is not None:
            session.fail(session_failure(self.peer, failure))


def _own_rows(entries: Sequence[OutputEntry], hidden: Tensor) -> Sequence[Tensor]:
    """Return `split_rows`, but none of them keeps the memory of all."""
    first, hidden_size = entries[0], hidden.shape[1]
    if len(entries) == 1:
        return [hidden.view(first.num_rows, first.num_tokens, hidden_size)]
    if len({(entry.num_rows, entry.num_tokens) for entry in entries}) == 1:  # as when all decode
        shape = (len(entries), first.num_rows, first.num_tokens, hidden_size)
        return torch.unbind_copy(hidden.view(shape))  # type: ignore[return-value, func-returns-value]  # stub
    return [rows.clone() for rows in split_rows(entries, hidden)]


def _copy(error: PeerError) -> PeerError:
    """Return an error for one of many who are told: each adds its own traceback."""
    return type(error)(error.peer, error.reason)
