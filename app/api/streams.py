"""`/api/v1/streams/{id}`: GET goes on with an answer, as an EventSource does; DELETE ends it.

The id is that of any of its events, with or without the number of the event. With neither that
number nor `Last-Event-ID`, GET begins at the beginning.
"""

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.api.answers.frames import parse_event_id
from app.api.answers.streamed import resume_answer
from app.api.replies import send_empty, send_error
from app.context import caller_of, context_of
from swarm_protocol.errors import SwarmError


class Streams:
    """The ASGI endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope)
        event_id: str = scope["path_params"]["journal_id"]
        if request.method == "DELETE":
            await self._end(scope, send, event_id)
        else:
            last = request.headers.get("last-event-id")
            await resume_answer(scope, receive, send, last or event_id)

    async def _end(self, scope: Scope, send: Send, event_id: str) -> None:
        """End it, here or on another worker; one that has gone already is no error."""
        try:
            journal_id, _ = parse_event_id(event_id, "id")
            await context_of(scope).keeper.forget(journal_id, caller_of(scope).tenant)
        except SwarmError as error:
            await send_error(scope, send, error)
        else:
            await send_empty(send)
