"""Errors of the gateway itself, and the one table from error codes to what callers see.

SwarmError
├── BadRequestError           a field, a body or a message is not what the surface takes
│   └── UnsupportedFieldError     a field that would change the answer, and is not offered
├── ForeignOriginError        a page of another site opened a WebSocket
├── InvalidKeyError           the API key is missing or wrong
├── RouteNotFoundError        no such path here
├── MethodNotAllowedError     the path exists, the method does not
├── BodyTooLargeError         the body is over the limit
├── MessageTooLargeError      a WebSocket message is over the limit
├── BinaryMessageError        a WebSocket message is not text
├── RateLimitedError          the caller has used up its tokens
├── BusyError                 as many generations run as may
├── DrainingError             the gateway is about to stop
└── HandedOverError           it stops in the middle, and another one can go on

`describe_error` never lets a peer's text, a path or a traceback through: a code that is not in the
table is an internal error, and a code whose text is not ours has a fixed sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.errors import SwarmError

INTERNAL_CODE: Final = "internal_error"
CLOSE_UNSUPPORTED: Final = 1003
CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL: Final = 1011
CLOSE_RESTART: Final = 1012
CLOSE_TRY_LATER: Final = 1013


class BadRequestError(SwarmError):
    """A field, a body or a message is not what the surface takes; `param` names the field."""

    code = "bad_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedFieldError(BadRequestError):
    """A field that would change the answer, and that this gateway does not offer."""

    code = "unsupported_field"


class ForeignOriginError(SwarmError):
    """A page of another site opened a WebSocket."""

    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__("this origin is not allowed to connect")


class InvalidKeyError(SwarmError):
    """The API key is missing or wrong."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("missing or wrong API key; send it as 'Authorization: Bearer <key>'")


class RouteNotFoundError(SwarmError):
    """No such path here."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("there is nothing at this path")


class MethodNotAllowedError(SwarmError):
    """The path exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self) -> None:
        super().__init__("this path does not take this method")


class BodyTooLargeError(SwarmError):
    """The request's body is over the limit; it was not read to its end."""

    code = "body_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is over the limit of {max_bytes} bytes")


class MessageTooLargeError(SwarmError):
    """A WebSocket message is over the limit."""

    code = "message_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the message is over the limit of {max_bytes} bytes")


class BinaryMessageError(SwarmError):
    """A WebSocket message is not text."""

    code = "binary_message"

    def __init__(self) -> None:
        super().__init__("expected a text frame with JSON, got a binary frame")


class RateLimitedError(SwarmError):
    """The caller has used up its tokens; `headers` tell the state of its limits."""

    code = "rate_limited"
    retryable = True

    def __init__(self, retry_after_s: float, headers: Mapping[str, str]) -> None:
        super().__init__(f"rate limit reached, please try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s
        self.headers = headers


class BusyError(SwarmError):
    """As many generations or conversations run as may."""

    code = "busy"
    retryable = True

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"all {limit} {what} of this gateway are in use, please try again soon")


class DrainingError(SwarmError):
    """The gateway finishes what it has begun and takes nothing new."""

    code = "draining"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the gateway is restarting, please try again soon")


class HandedOverError(SwarmError):
    """The gateway stops in the middle of a generation, and another one can go on with it."""

    code = "handed_over"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the gateway is restarting; connect again to get the rest")


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What a caller is told. `headers` include `retry-after` where waiting helps."""

    code: str
    message: str
    http_status: int
    openai_type: str
    close_code: int
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rule:
    http_status: int
    close_code: int = CLOSE_POLICY
    sentence: str | None = None  # None: the error's own text was written for callers
    retry_after_s: int | None = None


_AGAIN: Final = "please try again"
_PEER_RULE: Final = _Rule(
    502, CLOSE_TRY_LATER, f"a server of the swarm did not do its part, {_AGAIN}"
)
_INTERNAL: Final = _Rule(500, CLOSE_INTERNAL, "something went wrong inside the gateway")
_RULES: Final[Mapping[str, _Rule]] = {
    "bad_request": _Rule(400),
    "unsupported_field": _Rule(400),
    "invalid_parameters": _Rule(400),
    "bad_messages": _Rule(400),
    "max_length_exceeded": _Rule(400),
    "prompt_too_long": _Rule(400),
    "empty_prompt": _Rule(400),
    "over_limit": _Rule(400),
    "foreign_origin": _Rule(403),
    "invalid_api_key": _Rule(401),
    "unknown_model": _Rule(404),
    "not_found": _Rule(404),
    "journal_not_found": _Rule(
        404, CLOSE_POLICY, f"Session of this conversation has expired, {_AGAIN}"
    ),
    "journal_unreadable": _Rule(409),
    "method_not_allowed": _Rule(405),
    "body_too_large": _Rule(413, CLOSE_TOO_BIG),
    "message_too_large": _Rule(413, CLOSE_TOO_BIG),
    "binary_message": _Rule(400, CLOSE_UNSUPPORTED),
    "rate_limited": _Rule(429, CLOSE_TRY_LATER),
    "busy": _Rule(503, CLOSE_TRY_LATER, retry_after_s=1),
    "draining": _Rule(503, CLOSE_TRY_LATER, retry_after_s=5),
    "handed_over": _Rule(503, CLOSE_RESTART, retry_after_s=1),
    "state_unavailable": _Rule(
        503, CLOSE_TRY_LATER, f"the gateway's state store does not answer, {_AGAIN}", 1
    ),
    "engine_stopped": _Rule(503, CLOSE_TRY_LATER, f"the engine has stopped, {_AGAIN}", 5),
    "overloaded": _Rule(503, CLOSE_TRY_LATER, retry_after_s=1),
    "no_route": _Rule(503, CLOSE_TRY_LATER, retry_after_s=2),
    # The chat page of Petals looks for "attention cache is full" and "Session … expired".
    "no_capacity": _Rule(
        503, CLOSE_TRY_LATER, f"the servers' attention cache is full, {_AGAIN} later", 2
    ),
    "session_lost": _Rule(
        503, CLOSE_TRY_LATER, f"Session has expired: a server of its route was lost, {_AGAIN}", 1
    ),
    "session_closed": _Rule(503, CLOSE_TRY_LATER, f"Session has expired, {_AGAIN}", 1),
    "deadline_exceeded": _Rule(504, CLOSE_TRY_LATER, f"the swarm did not answer in time, {_AGAIN}"),
    "peer_error": _PEER_RULE,
    "peer_unreachable": _PEER_RULE,
    "peer_refused": _PEER_RULE,
    "peer_misbehaved": _PEER_RULE,
    "protocol_not_supported": _PEER_RULE,
    "malformed_message": _PEER_RULE,
    "bad_hidden_states": _PEER_RULE,
    "node_failed": _Rule(503, CLOSE_TRY_LATER, f"the gateway has lost the swarm, {_AGAIN}", 5),
}
_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    502: "server_error",
    503: "service_unavailable_error",
    504: "server_error",
    500: "server_error",
}


def describe_error(error: BaseException) -> ErrorReply:
    """Return what the caller may know of any error."""
    code = error.code if isinstance(error, SwarmError) else INTERNAL_CODE
    rule = _RULES.get(code, _INTERNAL)
    if rule is _INTERNAL:
        code = INTERNAL_CODE
    headers = dict(getattr(error, "headers", {}))
    retry_after_s = getattr(error, "retry_after_s", rule.retry_after_s)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, -int(-retry_after_s // 1)))
    if rule.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return ErrorReply(
        code=code,
        message=rule.sentence or str(error),
        http_status=rule.http_status,
        openai_type=_OPENAI_TYPES.get(rule.http_status, "invalid_request_error"),
        close_code=rule.close_code,
        param=getattr(error, "param", None) or getattr(error, "field", None),
        headers=headers,
    )
