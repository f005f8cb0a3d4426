"""Errors of callers who may not, or not now: what keys, limits and queues refuse.

SwarmError
├── InvalidKeyError           the API key is missing or wrong
│   └── ExpiredKeyError           it was right, and is no longer
├── OutOfScopeError           the key is for something else
├── RateLimitedError          the caller has used up its requests or tokens
│   └── BudgetExhaustedError      those of the whole month
├── TooManyOpenError          the caller has as much open as it may
├── TooManyWaitingError       the caller has as many requests waiting as it may
├── QueueFullError            as many requests wait for a model as may
└── QueueTimeoutError         a request has waited as long as it may
"""

from collections.abc import Mapping

from app.errors.kinds import InvalidKeyError, RateLimitedError
from swarm_protocol.errors import SwarmError


class ExpiredKeyError(InvalidKeyError):
    """The API key was right, and is expired or revoked."""

    code = "api_key_expired"

    def __init__(self) -> None:
        SwarmError.__init__(self, "this API key is no longer good; ask for a new one")


class OutOfScopeError(SwarmError):
    """The key is for something else."""

    code = "out_of_scope"

    def __init__(self, what: str) -> None:
        super().__init__(f"this API key may not use {what}")
        self.what = what


class BudgetExhaustedError(RateLimitedError):
    """The tokens of the whole month are used up."""

    code = "budget_exhausted"

    def __init__(self, retry_after_s: float, headers: Mapping[str, str]) -> None:
        SwarmError.__init__(self, "the tokens of this API key for this month are used up")
        self.retry_after_s = retry_after_s
        self.headers = headers


class TooManyOpenError(SwarmError):
    """The caller has as much open as it may."""

    code = "too_many_open"
    retryable = True

    def __init__(self, what: str, limit: int, retry_after_s: float = 1.0) -> None:
        super().__init__(f"you have {limit} {what} open, which is the limit; close one first")
        self.limit = limit
        self.retry_after_s = retry_after_s


class TooManyWaitingError(SwarmError):
    """The caller has as many requests waiting as it may."""

    code = "too_many_waiting"
    retryable = True

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{limit} of your requests are waiting already, which is the limit")
        self.limit = limit
        self.retry_after_s = retry_after_s


class QueueFullError(SwarmError):
    """As many requests wait for a model as may."""

    code = "queue_full"
    retryable = True

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{limit} requests are waiting for this model already, please try later")
        self.limit = limit
        self.retry_after_s = retry_after_s


class QueueTimeoutError(SwarmError):
    """A request has waited for its turn as long as it may."""

    code = "queue_timeout"
    retryable = True

    def __init__(self, waited_s: float, retry_after_s: float) -> None:
        super().__init__(f"no turn came within {waited_s:.0f} s, please try later")
        self.waited_s = waited_s
        self.retry_after_s = retry_after_s
