"""Callers of an ASGI app inside the test's own event loop: they can leave at any moment."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from starlette.types import ASGIApp, Message


class _Caller:
    """Runs the app for one scope, with a queue in each direction."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any], headers: Mapping[str, str]) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._app = app
        self._scope = {
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 5000),
            "server": ("gateway", 80),
            "headers": [(b"host", b"gateway"), *raw],
            "state": {},
            **scope,
        }
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await self._app(self._scope, self._to_app.get, self._from_app.put)

    async def next_message(self) -> Message:
        """Return what the app sends next; an app that ends instead fails the test."""
        getting = asyncio.create_task(self._from_app.get())
        await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done() and self._from_app.empty():
            getting.cancel()
            self._task.result()
            raise AssertionError("the app ended without a further message")
        return await getting

    async def wait_served(self) -> None:
        """Wait until the app has done with this caller."""
        await self._task


class SocketCaller(_Caller):
    """A WebSocket of the Petals dialect.

    Attributes:
        subprotocol: the one that the app took, of those offered.
    """

    def __init__(
        self,
        app: ASGIApp,
        headers: Mapping[str, str] | None = None,
        path: str = "/api/v2/generate",
        subprotocols: Sequence[str] = (),
    ) -> None:
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "scheme": "ws"}
        super().__init__(app, {**scope, "subprotocols": list(subprotocols)}, headers or {})
        self.subprotocol: str | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._to_app.put_nowait({"type": "websocket.connect"})
        message = await self.next_message()
        assert message["type"] == "websocket.accept"
        self.subprotocol = message.get("subprotocol")
        return self

    def say(self, **fields: object) -> None:
        """Send one JSON message."""
        self.say_text(json.dumps(fields))

    def say_text(self, text: str) -> None:
        """Send one text frame."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data: bytes) -> None:
        """Send one binary frame."""
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    def leave(self) -> None:
        """Close the connection."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})

    def vanish(self) -> None:
        """Break the connection."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def reply(self) -> dict[str, Any]:
        """Return the next reply."""
        message = await self.next_message()
        assert message["type"] == "websocket.send", message
        reply: dict[str, Any] = json.loads(message["text"])
        return reply

    async def close_code(self) -> int:
        """Wait for the app to close the connection."""
        message = await self.next_message()
        assert message["type"] == "websocket.close", message
        return int(message["code"])


class RequestCaller(_Caller):
    """One request, most often a POST with a JSON body."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> None:
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
        fields = {"content-type": "application/json", **(headers or {})}
        super().__init__(app, {**scope, "scheme": "http"}, fields)
        data = b"" if body is None else json.dumps(body).encode()
        self._to_app.put_nowait({"type": "http.request", "body": data, "more_body": False})

    def leave(self) -> None:
        """Break the connection."""
        self._to_app.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int:
        """Wait for the answer to begin."""
        message = await self.next_message()
        assert message["type"] == "http.response.start", message
        return int(message["status"])

    async def chunk(self) -> bytes:
        """Return the next piece of the body."""
        message = await self.next_message()
        assert message["type"] == "http.response.body", message
        return bytes(message.get("body", b""))
