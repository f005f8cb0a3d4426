"""Errors: those of the gateway itself, and what callers are told of any error.

Entry point: `describe_error`. `kinds` and `refusals` have our own classes, `rules` the one table
from error codes to HTTP status and close code, `replies` makes of both what a caller may know. A
new error that callers can meet needs a rule; `docs/reference/errors.md` is generated from them.
"""

from app.errors.kinds import (
    BadRequestError,
    BinaryMessageError,
    BodyTimeoutError,
    BodyTooLargeError,
    BusyError,
    DrainingError,
    ForeignOriginError,
    HandedOverError,
    InvalidKeyError,
    MessageTooLargeError,
    MethodNotAllowedError,
    RateLimitedError,
    ResponseNotFoundError,
    RouteNotFoundError,
    UnsupportedFieldError,
    WebSocketExpectedError,
)
from app.errors.refusals import (
    BudgetExhaustedError,
    ExpiredKeyError,
    OutOfScopeError,
    QueueFullError,
    QueueTimeoutError,
    TooManyOpenError,
    TooManyWaitingError,
)
from app.errors.replies import INTERNAL_CODE, ErrorReply, describe_error
from app.errors.rules import (
    CLOSE_INTERNAL,
    CLOSE_POLICY,
    CLOSE_RESTART,
    CLOSE_TOO_BIG,
    CLOSE_TRY_LATER,
    CLOSE_UNSUPPORTED,
)

__all__ = [
    "CLOSE_INTERNAL",
    "CLOSE_POLICY",
    "CLOSE_RESTART",
    "CLOSE_TOO_BIG",
    "CLOSE_TRY_LATER",
    "CLOSE_UNSUPPORTED",
    "INTERNAL_CODE",
    "BadRequestError",
    "BinaryMessageError",
    "BodyTimeoutError",
    "BodyTooLargeError",
    "BudgetExhaustedError",
    "BusyError",
    "DrainingError",
    "ErrorReply",
    "ExpiredKeyError",
    "ForeignOriginError",
    "HandedOverError",
    "InvalidKeyError",
    "MessageTooLargeError",
    "MethodNotAllowedError",
    "OutOfScopeError",
    "QueueFullError",
    "QueueTimeoutError",
    "RateLimitedError",
    "ResponseNotFoundError",
    "RouteNotFoundError",
    "TooManyOpenError",
    "TooManyWaitingError",
    "UnsupportedFieldError",
    "WebSocketExpectedError",
    "describe_error",
]
