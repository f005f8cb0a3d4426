"""Server-sent events written straight to ASGI: one `send` per event, nothing in between."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from starlette.types import Send

from app.admission import CallerLeftError
from app.api.replies import encode_headers
from app.direct_writes import DirectBody

log = structlog.get_logger(__name__)

KEEP_ALIVE_FRAME: Final = b": keep-alive\n\n"
_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # proxies of the nginx family would collect events
}


class EventStream:
    """One event stream. An event is flushed at once; a slow reader makes `write` wait.

    Args:
        stall_timeout_s: a reader who takes nothing for so long counts as gone.
        body: the short way to the connection, where there is one.
    """

    def __init__(
        self,
        send: Send,
        stall_timeout_s: float = 30.0,
        *,
        body: DirectBody | None = None,
    ) -> None:
        self._send = send
        self._body = body
        self._stall_timeout_s = stall_timeout_s
        self._is_writing = False
        self._has_written = False
        self.has_started = False

    async def start(self, headers: Mapping[str, str]) -> None:
        """Send the status and the headers; from now on errors are events."""
        self.has_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": encode_headers({**_HEADERS, **headers}),
            }
        )

    @property
    def is_free(self) -> bool:
        """Whether `write_now` works: nothing is being written, and the caller keeps up."""
        return not self._is_writing and self._body is not None and self._body.is_open

    def write_now(self, frame: bytes) -> None:
        """Send one or more whole events, past all layers; only while it `is_free`."""
        assert self._body is not None, "it is free"
        self._body.write(frame)
        self._has_written = True

    async def write(self, frame: bytes) -> None:
        """Send one or more whole events; waits while the reader does not take what is there.

        Raises:
            CallerLeftError: the reader took nothing for too long.
        """
        if self.is_free:
            self.write_now(frame)
            return
        self._is_writing = True
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            log.info("slow_reader_left", after_s=self._stall_timeout_s)
            raise CallerLeftError from None
        self._is_writing = False
        self._has_written = True

    async def end(self) -> None:
        """End the stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def keep_alive(self) -> None:
        """Send a comment if nothing was written since the last call; to be called now and then.

        Raises:
            CallerLeftError: the reader took nothing for too long.
        """
        if self._is_writing:
            return
        is_silent = not self._has_written
        self._has_written = False
        if self.has_started and is_silent:
            await self.write(KEEP_ALIVE_FRAME)
