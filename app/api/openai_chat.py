"""`POST /v1/chat/completions`."""

from app.api.openai_fields import ChatFields
from app.api.openai_generation import Dialect, OpenAIEndpoint
from app.observability.metrics import Surface
from app.serving import OfferedModel


async def _encode(model: OfferedModel, fields: ChatFields) -> list[int]:
    return await model.encode_chat([message.to_chat() for message in fields.messages])


def chat_endpoint() -> OpenAIEndpoint[ChatFields]:
    """Return the ASGI endpoint."""
    return OpenAIEndpoint(Dialect(Surface.CHAT, ChatFields, _encode))
