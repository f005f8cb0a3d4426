"""What every surface may reach: the app's parts, and the facts of the request at hand.

Kept in the ASGI scope: the app's context under `app.state`, the request's under `scope["state"]`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from starlette.types import Scope

from app.admission import Admission
from app.callers import Caller
from app.gateway import Gateway
from app.inference.requests import RequestId
from app.journals.keeper import JournalKeeper
from app.keys.registry import KeyRegistry
from app.observability.metrics import Metrics
from app.settings import Settings

Identify: TypeAlias = Callable[[], Awaitable[Caller]]
"""Asks anew who is calling; raises as `Keyring.identify` does."""


@dataclass(frozen=True, slots=True)
class AppContext:
    """The parts of one running app; `keys` is None where none are stored."""

    settings: Settings
    gateway: Gateway
    admission: Admission
    metrics: Metrics
    keeper: JournalKeeper
    keys: KeyRegistry | None


def context_of(scope: Scope) -> AppContext:
    """Return the parts of the app that serves this request."""
    context = scope["app"].state.context
    assert isinstance(context, AppContext)
    return context


def caller_of(scope: Scope) -> Caller:
    """Return who is calling; the authentication has put it there."""
    caller = scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def identify_of(scope: Scope) -> Identify:
    """Return how to find out whether a WebSocket's key is still good."""
    return cast(Identify, scope["state"]["identify"])  # put there by the authentication


def request_id_of(scope: Scope) -> RequestId:
    """Return the request's id; the outermost middleware has put it there."""
    return RequestId(scope["state"]["request_id"])
