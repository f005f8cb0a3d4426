"""`WS /api/v2/generate`: conversations in the Petals dialect, token by token.

One connection: it passes the caller's messages on to the run of its conversation, and what the run
writes back to the caller. The run is in `talk`, the rules are in `dialogue`, the frames in
`socket`.
"""

from contextlib import AsyncExitStack, aclosing, suppress
from typing import Final

import structlog
from starlette.websockets import WebSocket

from app.admission import CallerLeftError
from app.api.answers.frames import parse_event_id
from app.api.petals.dialogue import ConversationReplies, read_opening
from app.api.petals.fields import OpenMessage
from app.api.petals.socket import CLOSE_NORMAL, PetalsSocket, accept
from app.api.petals.talk import open_talk, revive_talk
from app.callers import Caller
from app.context import (
    AppContext,
    Identify,
    caller_of,
    context_of,
    identify_of,
    request_id_of,
)
from app.direct_writes import direct_socket_of
from app.errors import CLOSE_RESTART, HandedOverError
from app.inference.requests import RequestId
from app.journals.entries import Closed, ConversationBegun, Entry, Failed
from app.journals.following import follow
from app.journals.journal import Reading
from app.keys.errors import KeysUnreadableError
from app.presence import run_beside
from app.state.errors import StateUnavailableError
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_IDLE_TIMEOUT_S: Final = 300.0


async def petals_v2(websocket: WebSocket) -> None:
    """Serve one connection until the caller leaves or something goes wrong."""
    scope, receive, send = websocket.scope, websocket.receive, websocket.send
    context = context_of(scope)
    await accept(scope, receive, send)
    stall_timeout_s = context.settings.limits.slow_reader_s
    socket = PetalsSocket(receive, send, stall_timeout_s, direct=direct_socket_of(scope))
    request_id = request_id_of(scope)
    connection = _Connection(context, socket, caller_of(scope), request_id, identify_of(scope))
    with suppress(CallerLeftError):
        try:
            await run_beside(
                socket.read(),
                connection.serve(),
                on_silence=socket.check_reader,
                period_s=stall_timeout_s / 4,
            )
        finally:
            await connection.leave()


class _Connection:
    """One connection's part in a conversation."""

    def __init__(
        self,
        context: AppContext,
        socket: PetalsSocket,
        caller: Caller,
        request_id: RequestId,
        identify: Identify,
    ) -> None:
        self._context = context
        self._keeper = context.keeper
        self._socket = socket
        self._caller = caller
        self._request_id = request_id
        self._identify = identify
        self._journal_id: str | None = None

    async def serve(self) -> None:
        """Open or resume a conversation, and serve it; an error is told to the caller.

        Raises:
            CallerLeftError: the caller left, or said nothing for too long.
        """
        try:
            async with AsyncExitStack() as stack:
                with self._context.metrics.refusals():
                    connection = self._context.admission.connection(self._caller)
                    await stack.enter_async_context(connection)
                    opening = read_opening(await self._socket.next_text(_IDLE_TIMEOUT_S))
                    journal_id, seen = await self._begin(opening)
                await run_beside(self._pass_messages(journal_id), self._reply_all(journal_id, seen))
        except CallerLeftError:
            raise
        except HandedOverError:
            await self._socket.close(CLOSE_RESTART)
        except SwarmError as error:
            await self._socket.fail(error)
        except Exception as error:
            log.exception("connection_crashed")
            await self._socket.fail(error)

    async def leave(self) -> None:
        """End the conversation, unless it may be resumed or is read by another connection."""
        if self._journal_id is None:
            return
        if self._keeper.is_keeping and not self._socket.has_said_goodbye:
            return
        journal = self._keeper.find(self._journal_id, self._caller.tenant)
        if journal is not None and not journal.has_readers:
            try:
                await self._keeper.forget(self._journal_id, self._caller.tenant)
            except SwarmError as error:
                log.warning("conversation_not_forgotten", error=error.code)  # it expires by itself

    async def _begin(self, opening: OpenMessage) -> tuple[str, int]:
        """Return the journal's id, and the number of the last entry that the caller has."""
        if opening.resume is not None:
            journal_id, seen = parse_event_id(opening.resume, "resume")
            self._journal_id = journal_id
            return journal_id, max(0, seen)
        model = self._context.gateway.engine.model(opening.model)
        begun = ConversationBegun(model.id, opening.max_length)
        journal = await open_talk(self._context, self._caller, self._request_id, begun)
        self._journal_id = journal.id
        return journal.id, -1

    async def _pass_messages(self, journal_id: str) -> None:
        """Give the caller's messages to the run, once it is on this worker."""
        while True:
            message = await self._socket.next_message()
            await self._check_key()
            journal = await self._keeper.wait_for(journal_id, self._caller.tenant)
            await journal.inbox.put(message)

    async def _check_key(self) -> None:
        """Find out whether the key is still good; a store that is away ends no conversation.

        Raises:
            InvalidKeyError: it was revoked, has expired, or was replaced by another one.
        """
        with suppress(StateUnavailableError, KeysUnreadableError):
            await self._identify()

    async def _reply_all(self, journal_id: str, seen: int) -> None:
        replies = ConversationReplies(journal_id, seen=seen, can_resume=self._keeper.is_keeping)
        readings = follow(
            self._keeper,
            journal_id,
            self._caller.tenant,
            lambda journal: revive_talk(self._context, self._caller, self._request_id, journal),
            lambda reading: self._take_now(replies, reading),
        )
        last: Entry | None = None
        async with aclosing(readings):
            async for reading in readings:
                for reply in replies.replies(reading):
                    await self._socket.send_text(reply)
                last = reading.entries[-1] if reading.entries else last
        if isinstance(last, Failed):
            for reply in replies.rest():
                await self._socket.send_text(reply)
            await self._socket.refuse(last.reply)
        elif isinstance(last, Closed):
            await self._socket.close(CLOSE_NORMAL)

    def _take_now(self, replies: ConversationReplies, reading: Reading) -> bool:
        """Send what has just been written down, in the task of the run; see `following.Taker`."""
        if not self._socket.is_free:
            return False
        for reply in replies.replies(reading):
            self._socket.send_now(reply)
        return True
