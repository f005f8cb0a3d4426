"""Parts of a streamed answer written straight to the connection, past ASGI.

Every layer around the app is one more coroutine per `send`; with an event per token they cost more
than making the event. Status, headers and the end of an answer go through them all the same.
"""

from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_STATE_KEY: Final = "direct_body"


class DirectBody:
    """The chunked body of one answer, as `RequestResponseCycle.send` writes it."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended, and the caller takes what is written."""
        cycle = self._cycle
        return (
            cycle.chunked_encoding is True  # None before the headers are sent
            and not cycle.flow.write_paused
            and not cycle.disconnected
            and not cycle.response_complete
        )

    def write(self, data: bytes) -> None:
        """Write a part that is not empty, while it `is_open`."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


class DirectHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it; every request knows its `DirectBody`."""

    def on_headers_complete(self) -> None:
        """Begin a request, whose task has not run yet when this returns."""
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # else it is an upgrade
            self.scope["state"][_STATE_KEY] = DirectBody(self.cycle)


def direct_body_of(scope: Scope) -> DirectBody | None:
    """Return the body of this request's answer; None under other servers, as in tests."""
    body = scope["state"].get(_STATE_KEY)
    return body if isinstance(body, DirectBody) else None
