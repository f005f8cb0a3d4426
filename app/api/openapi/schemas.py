"""Schemas of the answers. Those of the bodies are made of the fields' models."""

from typing import Final

Schema = dict[str, object]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
ANY: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}


def record(**properties: Schema) -> Schema:
    """Return an object that has all of these, and perhaps more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(item: Schema) -> Schema:
    """Return a list."""
    return {"type": "array", "items": item}


def optional(schema: Schema) -> Schema:
    """Return a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def constant(value: str) -> Schema:
    """Return a text that is always the same."""
    return {"type": "string", "const": value}


_USAGE: Final = record(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
_CHOICE: Final = {"index": COUNT, "logprobs": optional(OBJECT), "finish_reason": TEXT}
_MODEL: Final = record(
    id=TEXT,
    object=constant("model"),
    created=COUNT,
    owned_by=TEXT,
    is_demo=FLAG,
    max_model_len=COUNT,
)

SCHEMAS: Final[dict[str, Schema]] = {
    "OpenAIError": record(
        error=record(
            message=TEXT,
            type=TEXT,
            param=optional(TEXT),
            code=TEXT,
            request_id=optional(TEXT),
        )
    ),
    "AnthropicError": record(
        type=constant("error"),
        error=record(type=TEXT, message=TEXT, code=TEXT),
        request_id=optional(TEXT),
    ),
    "PetalsError": record(ok={"type": "boolean", "const": False}, traceback=TEXT),
    "ChatCompletion": record(
        id=TEXT,
        object=constant("chat.completion"),
        created=COUNT,
        model=TEXT,
        choices=list_of(record(**_CHOICE, message=record(role=TEXT, content=optional(TEXT)))),
        usage=_USAGE,
    ),
    "TextCompletion": record(
        id=TEXT,
        object=constant("text_completion"),
        created=COUNT,
        model=TEXT,
        choices=list_of(record(**_CHOICE, text=TEXT)),
        usage=_USAGE,
    ),
    "Response": record(
        id=TEXT,
        object=constant("response"),
        created_at=COUNT,
        status=TEXT,
        model=TEXT,
        output=list_of(OBJECT),
        error=optional(record(code=TEXT, message=TEXT)),
        usage=optional(record(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT)),
    ),
    "Items": record(object=constant("list"), data=list_of(OBJECT), has_more=FLAG),
    "DeletedResponse": record(id=TEXT, object=constant("response"), deleted=FLAG),
    "Embeddings": record(
        object=constant("list"),
        model=TEXT,
        data=list_of(
            record(index=COUNT, embedding={"anyOf": [list_of(NUMBER), TEXT]}),
        ),
        usage=record(prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "Model": _MODEL,
    "Models": record(object=constant("list"), data=list_of(_MODEL)),
    "Message": record(
        id=TEXT,
        type=constant("message"),
        role=constant("assistant"),
        model=TEXT,
        content=list_of(record(type=TEXT)),
        stop_reason=TEXT,
        stop_sequence=optional(TEXT),
        usage=record(input_tokens=COUNT, output_tokens=COUNT),
    ),
    "TokenCount": record(input_tokens=COUNT),
    "Tokens": record(
        count=COUNT,
        max_model_len=COUNT,
        tokens=list_of(COUNT),
        token_strs=optional(list_of(TEXT)),
    ),
    "Text": record(prompt=TEXT),
    "ChatPrompt": record(
        object=constant("chat.completion.prompt"),
        model=TEXT,
        prompt=TEXT,
        token_ids=list_of(COUNT),
        count=COUNT,
        max_model_len=COUNT,
    ),
    "PetalsAnswer": {
        "anyOf": [
            record(ok={"type": "boolean", "const": True}, outputs=TEXT),
            {"$ref": "#/components/schemas/PetalsError"},
        ]
    },
    "Swarm": record(peer_id=TEXT, maddrs=list_of(TEXT), models=list_of(OBJECT)),
    "Object": OBJECT,
}
