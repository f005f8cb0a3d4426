"""Ends requests whose bodies do not arrive in time."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTimeoutError


class BodyDeadline:
    """Waits for the whole body `timeout_s` at most; what comes behind it has all the time.

    The error is raised where the body is read, so that the answer has the surface's shape.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        is_complete = False

        async def receive_in_time() -> Message:
            nonlocal is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise BodyTimeoutError(self._timeout_s) from error
            is_complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
