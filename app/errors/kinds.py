"""Errors of the gateway itself.

SwarmError
├── BadRequestError           a field, a body or a message is not what the surface takes
│   └── UnsupportedFieldError     a field that would change the answer, and is not offered
├── ForeignOriginError        a page of another site sent it, or a name that is not ours was used
├── InvalidKeyError           the API key is missing or wrong
├── RouteNotFoundError        no such path here
├── ResponseNotFoundError     no such response is kept, or it is somebody else's
├── MethodNotAllowedError     the path exists, the method does not
├── WebSocketExpectedError    the path is that of a WebSocket, the request is none
├── BodyTooLargeError         the body is over the limit
├── BodyTimeoutError          the body did not arrive in time
├── MessageTooLargeError      a WebSocket message is over the limit
├── BinaryMessageError        a WebSocket message is not text
├── RateLimitedError          the caller has used up its tokens
├── BusyError                 as many generations run as may
├── DrainingError             the gateway is about to stop
└── HandedOverError           it stops in the middle, and another one can go on
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from swarm_protocol.errors import SwarmError


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
    """A page of another site sent it, or it was sent to a name that may not be ours."""

    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__("this site, or this name of the gateway, is not among SWARMGATE_ORIGINS")


class InvalidKeyError(SwarmError):
    """The API key is missing or wrong."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("missing or wrong API key; send it as 'Authorization: Bearer <key>'")


class ResponseNotFoundError(SwarmError):
    """No response with this id is kept, or it belongs to another key."""

    code = "response_not_found"

    def __init__(self) -> None:
        super().__init__(
            "there is no response with this id: it never was, was not stored, or is kept no more"
        )


class RouteNotFoundError(SwarmError):
    """No such path here.

    Args:
        meant: the path of ours that the caller may have meant, if there is one like it.
    """

    code = "not_found"

    def __init__(self, meant: str | None = None) -> None:
        hint = "" if meant is None else f"; did you mean {meant}?"
        super().__init__(f"there is nothing at this path{hint}")


class MethodNotAllowedError(SwarmError):
    """The path exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        names = ", ".join(allowed)
        super().__init__(f"this path takes {names}")
        self.headers = {"allow": names}


class WebSocketExpectedError(SwarmError):
    """The path is that of a WebSocket, the request is none."""

    code = "websocket_expected"
    headers: ClassVar[Mapping[str, str]] = {"upgrade": "websocket", "connection": "upgrade"}

    def __init__(self) -> None:
        super().__init__("this path is a WebSocket: open it with a WebSocket client, as ws://…")


class BodyTooLargeError(SwarmError):
    """The request's body is over the limit; it was not read to its end."""

    code = "body_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is over the limit of {max_bytes} bytes")


class BodyTimeoutError(SwarmError):
    """The request's body did not arrive in time."""

    code = "body_timeout"
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}  # the rest is not read

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the body did not arrive within {timeout_s:g} s")


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
