"""Answers as bytes: JSON bodies, and errors in the shape of the surface they belong to."""

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Scope, Send

from app.api.anthropic.errors import error_json, is_anthropic
from app.errors import ErrorReply, describe_error

PETALS_V1_PATH: Final = "/api/v1/generate"
PETALS_V2_PATH: Final = "/api/v2/generate"

_DOOR_STATUSES: Final = frozenset({401, 403, 405, 408, 413, 429})
_DOOR_CODES: Final = frozenset(
    {"busy", "draining", "keys_unreadable", "queue_full", "queue_timeout", "state_unavailable"}
)
"""Refused at the door: with their HTTP status on every surface. Whatever else goes wrong, clients
of Petals expect to be told with status 200."""


async def send_json(send: Send, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer with status 200."""
    await _send_response(send, Response(body, 200, dict(headers), "application/json"))


async def send_empty(send: Send) -> None:
    """Send status 204: there is nothing more to say."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer for FastAPI's endpoints."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def error_response(scope: Scope, error: BaseException) -> Response:
    """Return what a caller may know of `error`, in the dialect of the path."""
    reply = describe_error(error)
    if scope["path"] == PETALS_V1_PATH:
        body, status = petals_error(reply), petals_v1_status(reply)
    else:
        request_id = scope.get("state", {}).get("request_id")
        to_body = anthropic_error if is_anthropic(scope["path"]) else openai_error
        body, status = to_body(reply, request_id), reply.http_status
    return Response(body, status, dict(reply.headers), "application/json")


async def send_error(scope: Scope, send: Send, error: BaseException) -> None:
    """Send `error_response`."""
    await _send_response(send, error_response(scope, error))


def openai_error(reply: ErrorReply, request_id: str | None) -> bytes:
    """Return the error as OpenAI's clients expect it."""
    error = {
        "message": reply.message,
        "type": reply.openai_type,
        "param": reply.param,
        "code": reply.code,
        "request_id": request_id,
    }
    return orjson.dumps({"error": error})


def anthropic_error(reply: ErrorReply, request_id: str | None) -> bytes:
    """Return the error as Anthropic's clients expect it."""
    return orjson.dumps({**error_json(reply), "request_id": request_id})


def petals_error(reply: ErrorReply) -> bytes:
    """Return the error as Petals' clients expect it; `traceback` is its name, not its content."""
    return orjson.dumps({"ok": False, "traceback": reply.message})


def petals_v1_status(reply: ErrorReply) -> int:
    """Return the HTTP status of an error of `POST /api/v1/generate`."""
    is_at_door = reply.http_status in _DOOR_STATUSES or reply.code in _DOOR_CODES
    return reply.http_status if is_at_door else 200


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _send_response(send: Send, response: Response) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "http.response.body", "body": response.body})
