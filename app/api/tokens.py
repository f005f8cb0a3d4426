"""`POST /tokenize`, `/detokenize`, `/v1/chat/completions/render`: prompts as the model sees them.

Nothing is generated. Names of fields are vLLM's.
"""

from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.answers.chat_output import plan_chat
from app.api.bodies import parse_json_object, read_body, validate
from app.api.openai.chat import plan_messages
from app.api.openai.completions import check_tokens
from app.api.openai.fields import ChatFields, Message
from app.api.openai.prompt_fields import PROMPT_ORDERS, ChatPromptFields
from app.api.openai.structured import ToolUseFields
from app.api.replies import json_response
from app.api.unknown_fields import add_names, ignore_fields, ignored_header, name_fields
from app.context import caller_of, context_of
from app.errors import BadRequestError
from app.inference.chat_templates import ChatStyle
from app.serving import OfferedModel

router = APIRouter()

MAX_DETOKENIZED: Final = 1_000_000


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    model: str = Field(max_length=1000)


Fields = TypeVar("Fields", bound=_Fields | ChatFields)


class TokenizeFields(_Fields, ChatPromptFields, ToolUseFields):
    """The body of `POST /tokenize`: a text, or the messages of a chat."""

    prompt: str | None = None
    messages: Annotated[list[Message] | None, Field(min_length=1, max_length=10_000)] = None
    add_special_tokens: bool = True
    return_token_strs: bool = False

    def unheeded_wishes(self, style: ChatStyle) -> list[str]:
        """Return the names of fields without effect: those of chats mean nothing for a text."""
        if self.messages is None:
            return [name for name in self.model_fields_set if name in _OF_CHATS]
        return super().unheeded_wishes(style)


_OF_CHATS: Final = {*ChatPromptFields.model_fields, *ToolUseFields.model_fields}


class DetokenizeFields(_Fields):
    """The body of `POST /detokenize`."""

    tokens: Annotated[list[int], Field(max_length=MAX_DETOKENIZED)]


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    """Return the tokens of a text (with the model's first one, unless told otherwise) or a chat."""
    fields, model = await _read(request, TokenizeFields)
    if (fields.prompt is None) == (fields.messages is None):
        raise BadRequestError("expected either prompt or messages", "prompt")
    ignored = ignore_fields(fields.model_extra, PROMPT_ORDERS)
    ignored = add_names(ignored, fields.unheeded_wishes(model.chat_style))
    if fields.messages is not None:
        messages = [message.to_chat() for message in fields.messages]
        plan = await plan_chat(model, messages, fields.tool_wishes(), None, fields.prompt_wishes())
        token_ids = plan.prompt_ids
    else:
        text = fields.prompt or ""
        token_ids = await model.encode(text, add_special_tokens=fields.add_special_tokens)
    strings = None
    if fields.return_token_strs:
        strings = [model.token_bytes(each).decode("utf-8", "replace") for each in token_ids]
    return json_response(
        {
            "count": len(token_ids),
            "max_model_len": model.facts.max_positions,
            "tokens": token_ids,
            "token_strs": strings,
        },
        headers=ignored_header(ignored),
    )


@router.post("/detokenize")
async def detokenize(request: Request) -> Response:
    """Return the text of tokens, special ones included."""
    fields, model = await _read(request, DetokenizeFields)
    token_ids = check_tokens(model, fields.tokens, "tokens")
    ignored = name_fields(fields.model_extra or {})
    return json_response({"prompt": await model.decode(token_ids)}, headers=ignored_header(ignored))


@router.post("/v1/chat/completions/render")
async def render_chat(request: Request) -> Response:
    """Return what `POST /v1/chat/completions` would make of the same body: text and tokens."""
    fields, model = await _read(request, ChatFields)
    ignored = add_names(fields.ignored_fields(), fields.unheeded_wishes(model.chat_style))
    plan = await plan_messages(model, fields)
    return json_response(
        {
            "object": "chat.completion.prompt",
            "model": model.id,
            "prompt": plan.prompt,
            "token_ids": plan.prompt_ids,
            "count": len(plan.prompt_ids),
            "max_model_len": model.facts.max_positions,
        },
        headers=ignored_header(ignored),
    )


async def _read(request: Request, fields: type[Fields]) -> tuple[Fields, OfferedModel]:
    """Return the body and the model it names. Raises SwarmError, as all of this module."""
    body = validate(fields, parse_json_object(await read_body(request.receive)))
    caller_of(request.scope).check_model(body.model)
    return body, context_of(request.scope).gateway.engine.model(body.model)
