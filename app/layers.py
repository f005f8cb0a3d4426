"""What every request passes on its way to a route, from the outside in.

```
Envelope ▶ TraceRequests ▶ CORS ▶ OriginCheck ▶ Authentication ▶ BodyLimit ▶ BodyDeadline ┐
             if it is on    if sites are listed                          routes ◀ ShortWay ◀─┘
```
"""

from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.keys.keyring import Keyring
from app.middleware.authentication import Authentication
from app.middleware.body_deadline import BodyDeadline
from app.middleware.body_limit import BodyLimit
from app.middleware.envelope import Envelope
from app.middleware.origin_check import OriginCheck
from app.middleware.tracing import TraceRequests
from app.observability.metrics import Metrics
from app.origins import OriginRules
from app.settings import Settings

if TYPE_CHECKING:  # it needs an extra
    from app.observability.tracing import Tracing

_EXPOSED_HEADERS: Final = (
    *("x-request-id", "retry-after", "server-timing", "x-swarmgate-ignored"),
    *(
        f"x-ratelimit-{fact}-{unit}"
        for fact in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    ),
)
_PREFLIGHT_AGE_S: Final = 600


def add_layers(
    app: FastAPI, settings: Settings, keyring: Keyring, metrics: Metrics, tracing: "Tracing | None"
) -> None:
    """Put the layers around the app's routes."""
    limits = settings.limits
    rules = OriginRules(settings.origins, is_open=not settings.needs_keys)
    # The last one added is the outermost.
    app.add_middleware(BodyDeadline, timeout_s=limits.body_timeout_s)
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes, metrics=metrics)
    app.add_middleware(Authentication, keyring=keyring, metrics=metrics)
    app.add_middleware(OriginCheck, rules=rules, metrics=metrics)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.rstrip("/") for origin in settings.origins],
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),  # no cookies are used, so a header gives a page no rights
            expose_headers=_EXPOSED_HEADERS,
            max_age=_PREFLIGHT_AGE_S,
        )
    if tracing is not None:
        app.add_middleware(TraceRequests, tracing=tracing)
    app.add_middleware(Envelope)
