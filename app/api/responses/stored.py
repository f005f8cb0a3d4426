"""`/v1/responses/{id}`: DELETE a response, POST `/cancel` to end it; GET is `retrieve`.

What is kept is kept for `SWARMGATE_RESUME_S` seconds, as every journal is. A cancelled response is
another journal, whose id follows from the first one's: so a worker that still writes the first one
finds it gone, and stops.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

from fastapi import APIRouter, Request, Response

from app.api.answers.choices import ChoiceReader, WholeChoice
from app.api.answers.streamed import revive_answer
from app.api.replies import json_response
from app.api.responses.items import CANCELLED, Json, details_of, output_of, response_json
from app.callers import Caller
from app.context import AppContext, caller_of, context_of
from app.errors import BadRequestError, ErrorReply, ResponseNotFoundError
from app.inference.requests import ChatMessage, ChatToolCall
from app.journals.entries import (
    AnswerBegun,
    Entry,
    Failed,
    Produced,
    Timed,
    decode_entry,
    is_end,
)
from app.journals.following import take_over
from app.observability.metrics import Surface
from app.state.errors import JournalNotFoundError

router = APIRouter()

_ID: Final = re.compile(r"resp_([0-9a-f]{32})")
_CANCELLED: Final = ErrorReply(
    code=CANCELLED,
    message="the response was cancelled",
    http_status=409,
    openai_type="invalid_request_error",
    close_code=1000,
)


@router.delete("/v1/responses/{response_id}")
async def delete_response(request: Request, response_id: str) -> Response:
    """Forget a response, and end it if it is not finished."""
    context, caller = context_of(request.scope), caller_of(request.scope)
    await find_response(context, caller, response_id)
    journal_id = _journal_id(response_id)
    for each in (journal_id, _cancelled_id(journal_id)):
        await context.keeper.forget(each, caller.tenant)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(request: Request, response_id: str) -> Response:
    """End a response; what there is of it can still be retrieved. A finished one stays as it is."""
    context, caller = context_of(request.scope), caller_of(request.scope)
    _, entries = await find_response(context, caller, response_id)
    if not is_end(entries[-1]):
        journal_id = _journal_id(response_id)
        await context.keeper.forget(journal_id, caller.tenant)
        entries = [*entries, Failed(_CANCELLED)]
        await context.keeper.keep(_cancelled_id(journal_id), caller.tenant, entries)
    return json_response(describe_response(context, entries))


async def read_dialogue(
    context: AppContext, caller: Caller, response_id: str
) -> tuple[ChatMessage, ...]:
    """Return what a finished response was asked, and what it said.

    Raises:
        ResponseNotFoundError: it is not kept any more.
        BadRequestError: it is not finished.
    """
    _, entries = await find_response(context, caller, response_id)
    begun, choice = _gather(entries)
    if choice.reader.finish_reason is None:
        raise BadRequestError(
            "previous_response_id: that response is not finished", "previous_response_id"
        )
    calls = tuple(ChatToolCall(call.id, call.name, call.arguments) for call in choice.tool_calls)
    return (*details_of(begun).messages, ChatMessage("assistant", choice.text, calls))


async def find_response(
    context: AppContext, caller: Caller, response_id: str
) -> tuple[str, Sequence[Entry]]:
    """Return the id and the entries of the journal of a response, cancelled or not.

    Raises:
        ResponseNotFoundError: there is no such response, or it was not to be stored.
    """
    journal_id = _journal_id(response_id)
    for each in (journal_id, _cancelled_id(journal_id)):
        with suppress(JournalNotFoundError):
            entries = await _read_journal(context, caller, each)
            begun = entries[0]
            if (
                isinstance(begun, AnswerBegun)
                and begun.surface is Surface.RESPONSES
                and details_of(begun).is_stored
            ):
                return each, entries
    raise ResponseNotFoundError


async def _read_journal(context: AppContext, caller: Caller, journal_id: str) -> Sequence[Entry]:
    keeper = context.keeper
    journal = keeper.find(journal_id, caller.tenant)
    if journal is not None:
        return list(journal.entries)
    part = await keeper.read(journal_id, caller.tenant, 0)
    entries = [decode_entry(data) for data in part.entries]
    if not part.is_leased and not is_end(entries[-1]):
        await take_over(
            keeper,
            journal_id,
            caller.tenant,
            lambda taken: revive_answer(context, caller, taken),
        )
    return entries


def describe_response(context: AppContext, entries: Sequence[Entry]) -> Json:
    """Return a response as it is now."""
    begun, choice = _gather(entries)
    model = context.gateway.engine.model(begun.model_id)
    failure = entries[-1].reply if isinstance(entries[-1], Failed) else None
    output = output_of(begun, choice, model.token_bytes, has_failed=failure is not None)
    timings = next((entry.timings for entry in entries if isinstance(entry, Timed)), None)
    return response_json(begun, choice.reader, output, failure, timings=timings)


def _gather(entries: Sequence[Entry]) -> tuple[AnswerBegun, WholeChoice]:
    begun = entries[0]
    assert isinstance(begun, AnswerBegun)
    choice = WholeChoice(ChoiceReader(begun))
    for entry in entries:
        if isinstance(entry, Produced):
            choice.add(entry)
    return begun, choice


def _journal_id(response_id: str) -> str:
    match = _ID.fullmatch(response_id)
    if match is None:
        raise ResponseNotFoundError
    return match[1]


def _cancelled_id(journal_id: str) -> str:
    return sha256(f"cancelled {journal_id}".encode()).hexdigest()[:32]
