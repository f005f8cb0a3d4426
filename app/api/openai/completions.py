"""`POST /v1/completions`: texts in, their continuations out."""

from app.api.answers.endpoint import AnswerEndpoint
from app.api.openai.fields import TextFields
from app.api.openai.generation import OpenAIPlanner, Prompts
from app.errors import BadRequestError
from app.observability.metrics import Surface
from app.serving import OfferedModel


async def _encode(model: OfferedModel, fields: TextFields) -> Prompts:
    """A prompt of tokens is taken as it is; a text gets the model's first token."""
    token_ids = [
        await model.encode(prompt, add_special_tokens=True)
        if isinstance(prompt, str)
        else check_tokens(model, prompt, "prompt")
        for prompt in fields.prompt
    ]
    return Prompts(token_ids, fields.constraint())


def check_tokens(model: OfferedModel, token_ids: list[int], param: str) -> list[int]:
    """Return the tokens.

    Raises:
        BadRequestError: one is outside of the model's vocabulary.
    """
    if any(not 0 <= token_id < model.facts.vocab_size for token_id in token_ids):
        last = model.facts.vocab_size - 1
        raise BadRequestError(f"{param}: expected tokens from 0 to {last}", param)
    return token_ids


def completions_endpoint() -> AnswerEndpoint:
    """Return the ASGI endpoint."""
    return AnswerEndpoint(OpenAIPlanner(Surface.COMPLETIONS, TextFields, _encode))
