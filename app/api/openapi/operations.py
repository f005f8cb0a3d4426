"""The HTTP routes as a table: what each takes, and what it answers when all is well."""

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel

from app.api.admin.keys import KeyRotation
from app.api.admin.models import ModelAddition
from app.api.anthropic.errors import MESSAGES_PATH
from app.api.anthropic.fields import MessageFields, PromptFields
from app.api.openai.embeddings import EmbeddingFields
from app.api.openai.fields import ChatFields, TextFields
from app.api.petals.fields import GenerateForm
from app.api.replies import PETALS_V1_PATH
from app.api.responses.fields import ResponseFields
from app.api.responses.inputs import PageFields
from app.api.responses.retrieve import RetrieveFields
from app.api.tokens import DetokenizeFields, TokenizeFields
from app.keys.registry import KeyDraft

Method = Literal["get", "post", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        reply: name of the answer's schema; None for an empty answer.
        query: fields that come in the query; none of them is required.
        is_streamed: it may answer with server-sent events, too.
        takes_forms: fields may come as a form or in the query, beside JSON.
        media_type: of the answer.
        body_is_optional: an empty body is an empty object.
    """

    method: Method
    path: str
    summary: str
    tag: str
    reply: str | None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    status: int = 200
    is_streamed: bool = False
    takes_forms: bool = False
    media_type: str = "application/json"
    body_is_optional: bool = False


def _post(
    path: str, summary: str, tag: str, body: type[BaseModel], reply: str, *, streams: bool = False
) -> Operation:
    return Operation(
        method="post",
        path=path,
        summary=summary,
        tag=tag,
        body=body,
        reply=reply,
        is_streamed=streams,
    )


def _get(
    path: str,
    summary: str,
    tag: str,
    reply: str,
    *,
    query: type[BaseModel] | None = None,
    streams: bool = False,
) -> Operation:
    return Operation(
        method="get",
        path=path,
        summary=summary,
        tag=tag,
        reply=reply,
        query=query,
        is_streamed=streams,
    )


def _delete(
    path: str, summary: str, tag: str, reply: str | None, *, status: int = 200
) -> Operation:
    return Operation(
        method="delete", path=path, summary=summary, tag=tag, reply=reply, status=status
    )


_KEY_PATH: Final = "/api/v1/admin/keys"
_MODEL_PATH: Final = "/api/v1/admin/models"
_RESPONSE: Final = "/v1/responses/{response_id}"
_STREAM: Final = "/api/v1/streams/{journal_id}"

_OPENAI: Final = (
    _post(
        "/v1/chat/completions",
        "Answer a chat.",
        "OpenAI",
        ChatFields,
        "ChatCompletion",
        streams=True,
    ),
    _post(
        "/v1/completions", "Continue texts.", "OpenAI", TextFields, "TextCompletion", streams=True
    ),
    _post(
        "/v1/responses",
        "Answer, and keep the answer.",
        "OpenAI",
        ResponseFields,
        "Response",
        streams=True,
    ),
    _get(
        _RESPONSE,
        "Return a kept response, whole or as its events.",
        "OpenAI",
        "Response",
        query=RetrieveFields,
        streams=True,
    ),
    _delete(_RESPONSE, "Forget a response.", "OpenAI", "DeletedResponse"),
    _get(
        _RESPONSE + "/input_items",
        "List what a kept response was asked with.",
        "OpenAI",
        "Items",
        query=PageFields,
    ),
    _post(
        "/v1/responses/input_tokens",
        "Count the prompt of a response.",
        "OpenAI",
        ResponseFields,
        "TokenCount",
    ),
    Operation(
        method="post",
        path=_RESPONSE + "/cancel",
        summary="End a response.",
        tag="OpenAI",
        reply="Response",
    ),
    _post(
        "/v1/embeddings", "Mean-pooled last hidden states.", "OpenAI", EmbeddingFields, "Embeddings"
    ),
    _get("/v1/models", "List the models.", "OpenAI", "Models"),
    _get("/v1/models/{model_id}", "Describe a model.", "OpenAI", "Model"),
)
_TOKENS: Final = (
    _post("/tokenize", "Text or chat to tokens.", "Tokens", TokenizeFields, "Tokens"),
    _post("/detokenize", "Tokens to text.", "Tokens", DetokenizeFields, "Text"),
    _post(
        "/v1/chat/completions/render",
        "The exact prompt of a chat.",
        "Tokens",
        ChatFields,
        "ChatPrompt",
    ),
)
_ANTHROPIC: Final = (
    _post(MESSAGES_PATH, "Answer a chat.", "Anthropic", MessageFields, "Message", streams=True),
    _post(
        MESSAGES_PATH + "/count_tokens", "Count a prompt.", "Anthropic", PromptFields, "TokenCount"
    ),
)
_STREAMS: Final = (
    Operation(
        method="get",
        path=_STREAM,
        summary="Go on with a stream behind one of its events.",
        tag="Streams",
        reply="Object",
        is_streamed=True,
        media_type="text/event-stream",
    ),
    _delete(_STREAM, "End a stream.", "Streams", None, status=204),
)
_PETALS: Final = (
    Operation(
        method="post",
        path=PETALS_V1_PATH,
        summary="Continue a text, as chat.petals.dev does.",
        tag="Petals",
        body=GenerateForm,
        reply="PetalsAnswer",
        takes_forms=True,
    ),
    _get("/api/v1/swarm", "Who serves what.", "Petals", "Swarm"),
)
_OPERATION: Final = (
    _get("/health/live", "The process runs.", "Operation", "Object"),
    _get("/health/ready", "Tokens can be made; 503 says why not.", "Operation", "Object"),
    Operation(
        method="get",
        path="/metrics",
        summary="Metrics for Prometheus.",
        tag="Operation",
        reply="Object",
        media_type="text/plain",
    ),
    _get("/openapi.json", "This document.", "Operation", "Object"),
)
_ADMIN: Final = (
    _get(_KEY_PATH, "List the keys.", "Admin", "Object"),
    Operation(
        method="post",
        path=_KEY_PATH,
        summary="Make a key.",
        tag="Admin",
        body=KeyDraft,
        reply="Object",
        status=201,
        body_is_optional=True,
    ),
    _get(_KEY_PATH + "/{key_id}", "Describe a key.", "Admin", "Object"),
    _delete(_KEY_PATH + "/{key_id}", "End a key.", "Admin", "Object"),
    Operation(
        method="post",
        path=_KEY_PATH + "/{key_id}/rotate",
        summary="Give a key a new secret.",
        tag="Admin",
        body=KeyRotation,
        reply="Object",
        body_is_optional=True,
    ),
    _get(_MODEL_PATH, "List the models of this worker.", "Admin", "Object"),
    Operation(
        method="post",
        path=_MODEL_PATH,
        summary="Offer a model.",
        tag="Admin",
        body=ModelAddition,
        reply="Object",
        status=201,
    ),
    _delete(_MODEL_PATH + "/{model_id}", "Offer a model no more.", "Admin", "Object", status=202),
)

OPERATIONS: Final = (*_OPENAI, *_TOKENS, *_ANTHROPIC, *_STREAMS, *_PETALS, *_OPERATION, *_ADMIN)
