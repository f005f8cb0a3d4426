"""Server-sent events written straight to ASGI: one `send` per event, nothing in between."""

from collections.abc import Mapping
from typing import Final

from starlette.types import Send

from app.admission import CallerLeftError
from app.api.openai_frames import KEEP_ALIVE_FRAME
from app.api.replies import encode_headers

_MAX_STALLED_PERIODS: Final = 4
_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # proxies of the nginx family would collect events
}


class EventStream:
    """One event stream. An event is flushed at once; a slow reader makes `write` wait."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_writing = False
        self._num_written = 0
        self._num_seen = 0
        self._num_stalled = 0
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

    async def write(self, frame: bytes) -> None:
        """Send one or more whole events."""
        self._is_writing = True
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        self._is_writing = False
        self._num_written += 1

    async def end(self) -> None:
        """End the stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def keep_alive(self) -> None:
        """Send a comment if nothing was written since the last call.

        Raises:
            CallerLeftError: the reader has taken nothing for several calls.
        """
        is_silent = self._num_written == self._num_seen
        self._num_seen = self._num_written
        self._num_stalled = self._num_stalled + 1 if is_silent and self._is_writing else 0
        if self._num_stalled >= _MAX_STALLED_PERIODS:
            raise CallerLeftError
        if self.has_started and is_silent and not self._is_writing:
            await self._send(
                {"type": "http.response.body", "body": KEEP_ALIVE_FRAME, "more_body": True}
            )
