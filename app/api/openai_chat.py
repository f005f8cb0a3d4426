"""`POST /v1/chat/completions`."""

from app.api.answer_endpoint import AnswerEndpoint
from app.api.openai_fields import ChatFields
from app.api.openai_generation import OpenAIPlanner
from app.observability.metrics import Surface
from app.serving import OfferedModel


async def _encode(model: OfferedModel, fields: ChatFields) -> list[list[int]]:
    return [await model.encode_chat([message.to_chat() for message in fields.messages])]


def chat_endpoint() -> AnswerEndpoint:
    """Return the ASGI endpoint."""
    return AnswerEndpoint(OpenAIPlanner(Surface.CHAT, ChatFields, _encode))
