"""What the gateway tells a trace, and which trace the current request belongs to.

Knows no tracing library: without one, `begin_generation` returns None, and nothing else is called.
"""

from contextvars import ContextVar
from typing import Protocol

from app.inference.requests import TokenTimings
from app.observability.time_spent import TimeSpent
from swarm_client.session.events import SessionEvent


class GenerationTrace(Protocol):
    """The trace of one generation, from admission to its end."""

    def started(self, model_id: str, prompt_tokens: int) -> None:
        """The prompt is on its way through the blocks."""

    def step_finished(self, timings: TokenTimings) -> None:
        """A step has just yielded its token; the first one was the prefill."""

    def ended(self, outcome: str, spent: TimeSpent, generated_tokens: int) -> None:
        """Nothing comes any more."""


class RequestTrace(Protocol):
    """The trace of one request or connection."""

    def begin_generation(self) -> GenerationTrace:
        """Begin a generation; a connection may have several, one after the other."""

    def happened(self, event: SessionEvent) -> None:
        """A session of the latest generation has news."""


current_request: ContextVar[RequestTrace | None] = ContextVar("current_request", default=None)
"""Tasks that a request starts inherit it, so runs in the background belong to their request."""


def begin_generation() -> GenerationTrace | None:
    """Begin the trace of a generation of the current request, if that is traced."""
    request = current_request.get()
    return None if request is None else request.begin_generation()
