"""A WebSocket of the Petals dialect: frames in and out, origins, refusals. Knows no engine."""

import asyncio
from time import monotonic
from typing import Final

import structlog
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from app.admission import CallerLeftError
from app.api.replies import petals_error
from app.direct_writes import DirectSocket
from app.errors import BadRequestError, BinaryMessageError, ErrorReply, describe_error
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

CLOSE_NORMAL: Final = 1000
_GOODBYES: Final = frozenset({1000, 1001, 1005})  # closed, page left, closed without a code
_MAX_WAITING: Final = 8
_SUBPROTOCOL: Final = "swarmgate"


class PetalsSocket:
    """An accepted WebSocket whose messages wait in a bounded queue.

    `read` must run beside whatever works on the messages, so that a caller who leaves is noticed.

    Args:
        stall_timeout_s: a caller who takes no reply for so long counts as gone; `check_reader`
            looks.
        direct: the short way to the connection, where there is one.

    Attributes:
        has_said_goodbye: the caller has closed the connection; it did not break.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        stall_timeout_s: float = 30.0,
        *,
        direct: DirectSocket | None = None,
    ) -> None:
        self._receive = receive
        self._send = send
        self._direct = direct
        self._stall_timeout_s = stall_timeout_s
        self._sending_since: float | None = None
        # One more than may wait, for the error that says so.
        self._inbox: asyncio.Queue[str | SwarmError] = asyncio.Queue(_MAX_WAITING + 1)
        self._is_refusing = False
        self.has_said_goodbye = False

    async def read(self) -> None:
        """Take in frames until the caller leaves; after a wrong one the rest is dropped.

        Raises:
            CallerLeftError: always, in the end.
        """
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.has_said_goodbye = message.get("code", 1005) in _GOODBYES
                raise CallerLeftError
            if not self._is_refusing:
                self._put(message.get("text"))

    async def next_message(self) -> str | SwarmError:
        """Return the next message, or why there is none: it was binary, or too many waited."""
        return await self._inbox.get()

    async def next_text(self, timeout_s: float) -> str:
        """Return the next message.

        Raises:
            CallerLeftError: none came in time; the connection has been closed without a word,
                for nobody is waiting for a reply.
            SwarmError: the frame was binary, or too many were waiting.
        """
        try:
            async with asyncio.timeout(timeout_s):
                message = await self.next_message()
        except TimeoutError:
            await self.close(CLOSE_NORMAL)
            raise CallerLeftError from None
        if isinstance(message, SwarmError):
            raise message
        return message

    @property
    def is_free(self) -> bool:
        """Whether `send_now` works: nothing is being sent, and the caller keeps up."""
        return self._sending_since is None and self._direct is not None and self._direct.is_open

    def send_now(self, text: bytes) -> None:
        """Send one reply in UTF-8, past all layers; only while it `is_free`."""
        assert self._direct is not None, "it is free"
        self._direct.write_text(text)

    async def send_text(self, text: bytes) -> None:
        """Send one reply in UTF-8; waits while the caller does not take it.

        Raises:
            CallerLeftError: the connection is gone.
        """
        if self.is_free:
            self.send_now(text)
        else:
            await self._deliver({"type": "websocket.send", "text": text.decode()})

    async def fail(self, error: BaseException) -> None:
        """Tell the caller what went wrong, and close."""
        await self.refuse(describe_error(error))

    async def refuse(self, reply: ErrorReply) -> None:
        """Tell the caller what it may know, and close."""
        await self.send_text(petals_error(reply))
        await self.close(reply.close_code)

    async def close(self, code: int) -> None:
        """Close the connection."""
        await self._deliver({"type": "websocket.close", "code": code})

    async def check_reader(self) -> None:
        """Look whether replies are taken; to be called now and then.

        Raises:
            CallerLeftError: one has been waiting for `stall_timeout_s`.
        """
        since = self._sending_since
        if since is not None and monotonic() - since >= self._stall_timeout_s:
            log.info("slow_reader_left", after_s=self._stall_timeout_s)
            raise CallerLeftError

    async def _deliver(self, message: Message) -> None:
        self._sending_since = monotonic()
        try:
            await self._send(message)
        except (OSError, WebSocketDisconnect) as error:
            raise CallerLeftError from error
        finally:
            self._sending_since = None

    def _put(self, text: str | None) -> None:
        if text is None:
            self._refuse(BinaryMessageError())
        elif self._inbox.qsize() >= _MAX_WAITING:
            self._refuse(BadRequestError(f"more than {_MAX_WAITING} messages are waiting"))
        else:
            self._inbox.put_nowait(text)

    def _refuse(self, error: SwarmError) -> None:
        self._is_refusing = True
        self._inbox.put_nowait(error)


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a new WebSocket; where a page offers subprotocols, one of them must be taken."""
    await receive()  # websocket.connect
    is_offered = _SUBPROTOCOL in scope.get("subprotocols", ())
    await send({"type": "websocket.accept", "subprotocol": _SUBPROTOCOL if is_offered else None})


async def refuse_socket(scope: Scope, receive: Receive, send: Send, error: SwarmError) -> None:
    """Accept a new WebSocket only to say why it is refused."""
    await accept(scope, receive, send)
    await PetalsSocket(receive, send).fail(error)
