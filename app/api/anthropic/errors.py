"""Errors as Anthropic's clients expect them. Pure."""

from collections.abc import Mapping
from typing import Final

from app.errors import ErrorReply

MESSAGES_PATH: Final = "/v1/messages"

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_anthropic(path: str) -> bool:
    """Tell whether a path belongs to this dialect."""
    return path == MESSAGES_PATH or path.startswith(MESSAGES_PATH + "/")


def error_json(reply: ErrorReply) -> dict[str, object]:
    """Return the error; `code` is ours."""
    kind = _TYPES.get(reply.http_status, "invalid_request_error")
    error = {"type": kind, "message": reply.message, "code": reply.code}
    return {"type": "error", "error": error}
