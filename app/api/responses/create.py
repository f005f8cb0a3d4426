"""`POST /v1/responses`: whole, as a stream, or in the background."""

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from app.api.answers.chat_output import ChatPlan, plan_chat
from app.api.answers.endpoint import AnswerEndpoint, AnswerPlan
from app.api.bodies import validate
from app.api.generation import with_seed
from app.api.openai.generation import default_new_tokens
from app.api.responses.fields import ResponseDetails, ResponseFields
from app.api.responses.stored import read_dialogue
from app.api.unknown_fields import add_names
from app.callers import Caller
from app.context import AppContext
from app.errors import BadRequestError
from app.inference.requests import ChatMessage, RequestId
from app.journals.entries import AnswerBegun
from app.observability.metrics import Surface
from app.serving import OfferedModel


class ResponsePlanner:
    """`AnswerPlanner` of responses."""

    surface = Surface.RESPONSES

    async def plan(
        self, context: AppContext, caller: Caller, request_id: RequestId, body: Mapping[str, Any]
    ) -> AnswerPlan:
        """Return what is wanted; see `AnswerPlanner`."""
        fields = validate(ResponseFields, body)
        ignored = fields.ignored_fields()
        if fields.background and not context.keeper.is_keeping:
            raise BadRequestError("background: this gateway keeps no responses", "background")
        model = context.gateway.engine.model(fields.model)
        messages, plan = await plan_response(context, caller, model, fields)
        ignored = add_names(ignored, fields.unheeded_wishes(model.chat_style))
        prompt_ids = plan.prompt_ids
        max_tokens = fields.max_output_tokens or default_new_tokens(context, model, len(prompt_ids))
        request = fields.to_request(request_id, prompt_ids, max_new_tokens=max_tokens, model=model)
        details = ResponseDetails(
            id=uuid4().hex,
            messages=messages,
            instructions=fields.instructions,
            previous_response_id=fields.previous_response_id,
            metadata=fields.metadata or {},
            max_output_tokens=fields.max_output_tokens,
            form=fields.form(),
            is_stored=fields.is_stored and context.keeper.is_keeping,
            is_background=bool(fields.background),
        )
        begun = AnswerBegun(
            surface=self.surface,
            model_id=model.id,
            created_at=int(time.time()),
            includes_usage=True,
            includes_timings=fields.include_timings is True,
            request=with_seed(plan.applied(request)),
            output=plan.output,
            details=details.model_dump_json(),
        )
        return AnswerPlan(
            begun,
            bool(fields.stream),
            ignored,
            journal_id=details.id if details.is_stored or fields.stream else None,
            is_background=details.is_background,
        )


async def plan_response(
    context: AppContext, caller: Caller, model: OfferedModel, fields: ResponseFields
) -> tuple[tuple[ChatMessage, ...], ChatPlan]:
    """Return all messages of a dialogue, without the instructions, and the plan of its next answer.

    Raises:
        SwarmError: the earlier response is not there or not finished, or `plan_chat` refuses.
    """
    messages = tuple(fields.input)
    if fields.previous_response_id is not None:
        earlier = await read_dialogue(context, caller, fields.previous_response_id)
        messages = (*earlier, *messages)
    if not messages:
        raise BadRequestError("input: expected at least one message", "input")
    system = [ChatMessage("system", fields.instructions)] if fields.instructions else []
    plan = await plan_chat(
        model,
        [*system, *messages],
        fields.tool_wishes(),
        fields.constraint(),
        fields.prompt_wishes(),
    )
    return messages, plan


def responses_endpoint() -> AnswerEndpoint:
    """Return the ASGI endpoint."""
    return AnswerEndpoint(ResponsePlanner())
