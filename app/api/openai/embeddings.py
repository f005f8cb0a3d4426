"""`POST /v1/embeddings`: mean-pooled last hidden states of the model, and no more than that."""

from base64 import b64encode
from collections.abc import Mapping
from struct import pack
from typing import Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from app.admission import CallerLeftError
from app.api.bodies import parse_json_object, read_body, validate
from app.api.generation import SwarmNews
from app.api.openai.completions import check_tokens
from app.api.openai.fields import PromptInput
from app.api.replies import send_error, send_json
from app.api.unknown_fields import ignored_header, name_fields
from app.context import caller_of, context_of
from app.errors import BadRequestError, UnsupportedFieldError
from app.observability.metrics import Outcome, Surface
from app.presence import run_beside, wait_for_disconnect
from app.serving import OfferedModel

_POOLING: Final = {"x-swarmgate-pooling": "mean of the last hidden state"}


class EmbeddingFields(BaseModel):
    """The body. `input` is one text, the tokens of one, or several."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    model: str = Field(max_length=1000)
    input: PromptInput
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    def check_dimensions(self, model: OfferedModel) -> None:
        """Return when the embeddings are of the wanted size.

        Raises:
            UnsupportedFieldError: they are of another, and cannot be cut.
        """
        if self.dimensions not in (None, model.facts.hidden_size):
            raise UnsupportedFieldError(
                f"dimensions: embeddings of this model have {model.facts.hidden_size} numbers",
                "dimensions",
            )


class Embeddings:
    """The ASGI endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await read_body(receive)
            answer, headers = await run_beside(wait_for_disconnect(receive), _embed(scope, body))
            await send_json(send, answer, headers)
        except CallerLeftError:
            pass
        except Exception as error:
            await send_error(scope, send, error)


async def _embed(scope: Scope, body: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return the answer and its headers; inputs run one after the other."""
    context, caller = context_of(scope), caller_of(scope)
    async with context.admission.admit(Surface.EMBEDDINGS) as account:
        fields = validate(EmbeddingFields, parse_json_object(body))
        model = context.gateway.engine.model(fields.model)
        fields.check_dimensions(model)
        inputs = [await _tokens(model, each) for each in fields.input]
        num_tokens = sum(map(len, inputs))
        await context.admission.reserve(account, caller, model.id, num_tokens)
        news = SwarmNews(context, model.id)
        account.start(model.id, num_tokens)
        vectors = [
            await model.mean_hidden_state(each, tenant=caller.tenant, on_event=news)
            for each in inputs
        ]
        account.outcome = Outcome.STOP
    answer = {
        "object": "list",
        "model": model.id,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encode(fields, vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    ignored = ignored_header(name_fields(fields.model_extra or {}))
    return orjson.dumps(answer), {**account.headers, **_POOLING, **ignored}


async def _tokens(model: OfferedModel, text: str | list[int]) -> list[int]:
    if isinstance(text, list):
        return check_tokens(model, text, "input")
    token_ids = await model.encode(text, add_special_tokens=True)
    if not token_ids:
        raise BadRequestError("input: expected a text that has tokens", "input")
    return token_ids


def _encode(fields: EmbeddingFields, vector: list[float]) -> str | list[float]:
    """Return the numbers, or as OpenAI packs them: little-endian float32 in base64."""
    if fields.encoding_format == "float":
        return vector
    return b64encode(pack(f"<{len(vector)}f", *vector)).decode()
