"""`GET /v1/responses/{id}`: what there is of a response, whole or as the events that told it."""

from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.api.answers.streamed import AnswerSender, serve_kept
from app.api.bodies import validate
from app.api.replies import json_response
from app.api.responses.frames import ResponseWriter
from app.api.responses.stored import describe_response, find_response
from app.context import caller_of, context_of


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
        context, caller = context_of(scope), caller_of(scope)

        async def retrieve(sender: AnswerSender) -> None:
            fields = validate(RetrieveFields, Request(scope).query_params)
            journal_id, entries = await find_response(context, caller, response_id)
            if fields.stream:
                writer = partial(ResponseWriter, starting_after=fields.starting_after)
                await sender.send_rest(journal_id, -1, writer)
            else:
                whole = json_response(describe_response(context, entries))
                await whole(scope, receive, send)

        await serve_kept(scope, receive, send, retrieve)
