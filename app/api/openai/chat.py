"""`POST /v1/chat/completions`."""

from app.api.answers.chat_output import ChatPlan, plan_chat
from app.api.answers.endpoint import AnswerEndpoint
from app.api.openai.fields import ChatFields
from app.api.openai.generation import OpenAIPlanner, Prompts
from app.observability.metrics import Surface
from app.serving import OfferedModel


async def plan_messages(model: OfferedModel, fields: ChatFields) -> ChatPlan:
    """Return prompt and kind of the answer. Raises as `plan_chat` does."""
    messages = [message.to_chat() for message in fields.messages]
    return await plan_chat(
        model, messages, fields.tool_wishes(), fields.constraint(), fields.prompt_wishes()
    )


async def _encode(model: OfferedModel, fields: ChatFields) -> Prompts:
    plan = await plan_messages(model, fields)
    unheeded = fields.unheeded_wishes(model.chat_style)
    return Prompts(
        [plan.prompt_ids], plan.constraint, plan.output, plan.shown_special_ids, unheeded
    )


def chat_endpoint() -> AnswerEndpoint:
    """Return the ASGI endpoint."""
    return AnswerEndpoint(OpenAIPlanner(Surface.CHAT, ChatFields, _encode))
