"""What goes into a response: `POST /v1/responses/input_tokens` counts it before it is made, and
`GET /v1/responses/{id}/input_items` lists what went into one that is kept.
"""

from collections.abc import Iterator
from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import parse_json_object, read_body, validate
from app.api.replies import json_response
from app.api.responses.create import plan_response
from app.api.responses.fields import ResponseFields
from app.api.responses.items import Json, call_item, details_of
from app.api.responses.stored import find_response
from app.api.unknown_fields import add_names, ignored_header
from app.context import caller_of, context_of
from app.errors import BadRequestError
from app.inference.requests import ChatMessage
from app.journals.entries import AnswerBegun

router = APIRouter()

_COMPLETED: Final = "completed"


@router.post("/v1/responses/input_tokens")
async def count_input_tokens(request: Request) -> Response:
    """Return how many tokens the prompt of a response has; nothing is generated."""
    fields = validate(ResponseFields, parse_json_object(await read_body(request.receive)))
    ignored = fields.ignored_fields()
    context, caller = context_of(request.scope), caller_of(request.scope)
    caller.check_model(fields.model)
    model = context.gateway.engine.model(fields.model)
    _, plan = await plan_response(context, caller, model, fields)
    ignored = add_names(ignored, fields.unheeded_wishes(model.chat_style))
    count = {"object": "response.input_tokens", "input_tokens": len(plan.prompt_ids)}
    return json_response(count, headers=ignored_header(ignored))


class PageFields(BaseModel):
    """The query: which of the items, newest first unless told otherwise."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order: Literal["asc", "desc"] = "desc"
    limit: int = Field(default=20, ge=1, le=100)
    after: str | None = Field(default=None, max_length=100)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(request: Request, response_id: str) -> Response:
    """Return the messages, calls and results that a response was asked with, without instructions.

    Raises:
        ResponseNotFoundError: it is not kept.
        BadRequestError: there is no item with the id `after`.
    """
    fields = validate(PageFields, request.query_params)
    context, caller = context_of(request.scope), caller_of(request.scope)
    journal_id, entries = await find_response(context, caller, response_id)
    begun = entries[0]
    assert isinstance(begun, AnswerBegun)
    items = list(_items_of(details_of(begun).messages, journal_id))
    if fields.order == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if fields.after is not None and fields.after not in ids:
        raise BadRequestError("after: expected the id of an item of this response", "after")
    start = 0 if fields.after is None else ids.index(fields.after) + 1
    page = items[start : start + fields.limit]
    return json_response(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + len(page) < len(items),
        }
    )


def _items_of(messages: tuple[ChatMessage, ...], journal_id: str) -> Iterator[Json]:
    """Yield the items of messages; what an assistant says and calls are several."""
    for number, message in enumerate(messages):
        place = f"{journal_id}_in_{number}"
        if message.role == "tool":
            yield {
                "id": f"fco_{place}",
                "type": "function_call_output",
                "status": _COMPLETED,
                "call_id": message.tool_call_id,
                "output": message.content,
            }
            continue
        if message.content or not message.tool_calls:
            kind = "output_text" if message.role == "assistant" else "input_text"
            yield {
                "id": f"msg_{place}",
                "type": "message",
                "role": message.role,
                "status": _COMPLETED,
                "content": [{"type": kind, "text": message.content, "annotations": []}],
            }
        for index, call in enumerate(message.tool_calls):
            item_id = f"fc_{place}_{index}"
            yield call_item(item_id, call.id, call.name, call.arguments, _COMPLETED)
