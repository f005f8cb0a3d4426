"""`POST /v1/messages`, whole and as a stream, and `POST /v1/messages/count_tokens`."""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.answers.endpoint import AnswerEndpoint, AnswerPlan
from app.api.anthropic.errors import MESSAGES_PATH
from app.api.anthropic.fields import MessageFields, PromptFields
from app.api.bodies import parse_json_object, read_body, validate
from app.api.generation import with_seed
from app.api.replies import json_response
from app.api.unknown_fields import add_names, ignored_header
from app.callers import Caller
from app.context import AppContext, caller_of, context_of
from app.inference.requests import GenerationRequest, RequestId
from app.journals.entries import AnswerBegun
from app.observability.metrics import Surface

router = APIRouter()


class MessagePlanner:
    """`AnswerPlanner` of messages."""

    surface = Surface.MESSAGES

    async def plan(
        self, context: AppContext, caller: Caller, request_id: RequestId, body: Mapping[str, Any]
    ) -> AnswerPlan:
        """Return what is wanted; see `AnswerPlanner`."""
        fields = validate(MessageFields, body)
        ignored = fields.ignored_fields()
        model = context.gateway.engine.model(fields.model)
        plan = await fields.plan(model)
        ignored = add_names(ignored, fields.unheeded_wishes(model.chat_style))
        request = GenerationRequest(
            request_id=request_id,
            prompt_ids=tuple(plan.prompt_ids),
            max_new_tokens=fields.max_tokens,
            sampling=fields.sampling(model.chat_defaults),
            stop=tuple(fields.stop_sequences),
            keeps_stop=True,  # so that the answer can tell which one it was
        )
        request = plan.applied(request)
        begun = AnswerBegun(
            surface=self.surface,
            model_id=model.id,
            created_at=int(time.time()),
            includes_usage=True,
            includes_timings=fields.include_timings is True,
            request=with_seed(request) if fields.stream else request,
            output=plan.output,
        )
        return AnswerPlan(begun, bool(fields.stream), ignored)


def messages_endpoint() -> AnswerEndpoint:
    """Return the ASGI endpoint."""
    return AnswerEndpoint(MessagePlanner())


@router.post(MESSAGES_PATH + "/count_tokens")
async def count_tokens(request: Request) -> Response:
    """Return how many tokens a prompt has; nothing is generated."""
    fields = validate(PromptFields, parse_json_object(await read_body(request.receive)))
    ignored = fields.ignored_fields()
    caller_of(request.scope).check_model(fields.model)
    model = context_of(request.scope).gateway.engine.model(fields.model)
    plan = await fields.plan(model)
    ignored = add_names(ignored, fields.unheeded_wishes(model.chat_style))
    return json_response({"input_tokens": len(plan.prompt_ids)}, headers=ignored_header(ignored))
