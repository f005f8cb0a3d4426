"""`GET /v1/responses/{id}`: what there is of a response, whole or as the events that told it."""

from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.answers.streamed import AnswerSender, serve_kept
from app.api.bodies import validate
from app.api.replies import json_response, send_error
from app.api.responses.frames import ResponseWriter
from app.api.responses.stored import describe_response, find_response
from app.callers import Caller
from app.context import AppContext, caller_of, context_of
from swarm_protocol.errors import SwarmError


class RetrieveFields(BaseModel):
    """The query. `starting_after` is the number of the last event that the caller has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stream: bool = False
    starting_after: int = Field(default=-1, ge=-1)


class RetrieveResponse:
    """The ASGI endpoint. A response that nobody writes any more goes on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response_id: str = scope["path_params"]["response_id"]
        try:
            fields = validate(RetrieveFields, Request(scope).query_params)
            if not fields.stream:
                whole = await _whole(context_of(scope), caller_of(scope), response_id)
                await whole(scope, receive, send)
                return
        except SwarmError as error:
            await send_error(scope, send, error)
            return

        async def send_events(sender: AnswerSender) -> None:
            context, caller = context_of(scope), caller_of(scope)
            journal_id, _ = await find_response(context, caller, response_id)
            writer = partial(ResponseWriter, starting_after=fields.starting_after)
            await sender.send_rest(journal_id, -1, writer)

        await serve_kept(scope, receive, send, send_events)


async def _whole(context: AppContext, caller: Caller, response_id: str) -> Response:
    _, entries = await find_response(context, caller, response_id)
    return json_response(describe_response(context, entries))
