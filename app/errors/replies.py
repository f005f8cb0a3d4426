"""What a caller may know of an error.

`describe_error` never lets a peer's text, a path or a traceback through: a code without a rule is
an internal error, and a code whose text is not ours has a fixed sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.errors.rules import INTERNAL, RULES
from swarm_protocol.errors import SwarmError

INTERNAL_CODE: Final = "internal_error"

_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    502: "server_error",
    503: "service_unavailable_error",
    504: "server_error",
    500: "server_error",
}


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


def describe_error(error: BaseException) -> ErrorReply:
    """Return what the caller may know of any error."""
    code = error.code if isinstance(error, SwarmError) else INTERNAL_CODE
    rule = RULES.get(code, INTERNAL)
    if rule is INTERNAL:
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
