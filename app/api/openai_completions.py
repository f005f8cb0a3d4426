"""`POST /v1/completions`: text in, its continuation out."""

from app.api.openai_fields import TextFields
from app.api.openai_generation import Dialect, OpenAIEndpoint
from app.errors import BadRequestError
from app.observability.metrics import Surface
from app.serving import OfferedModel


async def _encode(model: OfferedModel, fields: TextFields) -> list[int]:
    """A prompt of tokens is taken as it is; a text gets the model's first token."""
    if isinstance(fields.prompt, str):
        return await model.encode(fields.prompt, add_special_tokens=True)
    if any(not 0 <= token_id < model.facts.vocab_size for token_id in fields.prompt):
        last = model.facts.vocab_size - 1
        raise BadRequestError(f"prompt: expected tokens from 0 to {last}", "prompt")
    return fields.prompt


def completions_endpoint() -> OpenAIEndpoint[TextFields]:
    """Return the ASGI endpoint."""
    return OpenAIEndpoint(Dialect(Surface.COMPLETIONS, TextFields, _encode))
